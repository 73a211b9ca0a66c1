"""One step of problem 2's network at 256 x 256 against the same network written plainly, in one run.

python3 -m benchmarks.faces

The plain network has the same weights, every normalisation, activation and convolution a call of its own on contiguous
tensors, and attention by einsum. Every time is the best of several. The last lines give the ratios and the share of the
machine's measured matrix-product peak; Winograd's convolutions count as what they stand for, so the share may exceed one.
"""
import argparse
import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.measure import best_seconds, matmul_peak, multiply_adds
from common.cli import autocast, choose_device, command
from common.demo import fill_stably
from p2_ddim.unet import Attention, FaceUNet, FaceUNetConfig
from p2_ddim.winograd import WinogradConv2d


class PlainAttention(nn.Module):
    """Attention spelled out."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.norm, self.qkv, self.out = attention.norm, attention.qkv, attention.out

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # 3 x (B, C, HW)
        weights = (torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5).softmax(dim=2)
        return x + self.out(torch.einsum("bij,bcj->bci", weights, v).unflatten(2, x.shape[2:]))


def plain(model: FaceUNet) -> FaceUNet:
    """The same network with torch's convolutions and attention spelled out."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Attention):
                setattr(module, name, PlainAttention(child))
            elif isinstance(child, WinogradConv2d):
                replacement = nn.Conv2d(child.in_channels, child.out_channels, 3, padding=1)
                replacement.load_state_dict(child.state_dict())
                setattr(module, name, replacement)
    return model


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    ours = FaceUNet(FaceUNetConfig()).eval()
    fill_stably(ours)
    ours, theirs = ours.to(device), plain(ours).to(device)
    x, t = torch.randn(1, 3, arguments.size, arguments.size, device=device), torch.tensor([500], device=device)
    repeats = arguments.repeats
    seconds = {
        "plain": best_seconds(lambda: theirs(x, t), device, repeats=repeats),
        "ours": best_seconds(lambda: ours(x, t), device, repeats=repeats),
    }
    with autocast(device, "bf16"):
        seconds["bf16"] = best_seconds(lambda: ours(x, t), device, repeats=repeats)
        eps_bf16 = ours(x, t).float()
    eps, eps_plain = ours(x, t), theirs(x, t)
    print(f"one step of one {arguments.size} x {arguments.size} image, seconds: " + ", ".join(f"{k} {v:.3f}" for k, v in seconds.items()))
    print(f"speed: ours {seconds['plain'] / seconds['ours']:.2f} times plain, bf16 {seconds['ours'] / seconds['bf16']:.2f} times ours")
    for name, other in (("plain", eps_plain), ("bf16", eps_bf16)):
        print(f"largest difference of eps to {name}: {((eps - other).abs().max() / eps.abs().max()).item():.1e} of the largest value")
    work, peak = multiply_adds(theirs, x, t), matmul_peak(device)
    print(f"multiply-adds of one step: {work / 1e9:.0f} G; matrix-product peak {peak / 1e9:.0f} G/s")
    print(f"share of the peak: plain {work / seconds['plain'] / peak:.0%}, ours {work / seconds['ours'] / peak:.0%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
