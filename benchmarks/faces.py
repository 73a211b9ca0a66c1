"""One step of problem 2's network at 256 x 256 against the same network written plainly, in one run.

python3 -m benchmarks.faces

The plain network has the same weights, every normalisation, activation and convolution a call of its own on contiguous
tensors, and attention by einsum. Every time is the best of several, taken in turns. The last lines give the ratios and the share of the
machine's measured matrix-product peak; Winograd's convolutions count as what they stand for, so the share may exceed one.
"""
import argparse
import copy
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import best_seconds, matmul_peak, multiply_adds
from common.cli import choose_device, command, has_bf16
from p2_ddim.unet import Attention, FaceUNet, FaceUNetConfig, ResidualBlock, for_inference
from p2_ddim.winograd import WinogradConv2d


def fill_stably(network: FaceUNet) -> None:
    """Random weights with which no value grows from layer to layer."""
    for name, parameter in network.named_parameters():
        n = torch.randn(parameter.shape)
        if parameter.ndim > 1:
            n = n / parameter[0].numel() ** 0.5 * (0.1 if name.endswith(("conv2.weight", "attention.out.weight")) else 1.0)
        else:
            n = 0.1 * n + name.endswith("weight")
        parameter.data.copy_(n)


class PlainAttention(nn.Module):
    """Attention spelled out."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.norm, self.qkv, self.out = attention.norm, attention.qkv, attention.out

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # 3 x (B, C, HW)
        weights = (torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5).softmax(dim=2)
        return x + self.out(torch.einsum("bij,bcj->bci", weights, v).unflatten(2, x.shape[2:]))


class PlainResidualBlock(nn.Module):
    """Normalisation, activation and convolution one after the other."""

    def __init__(self, block: ResidualBlock):
        super().__init__()
        self.norm1, self.norm2, self.time, self.skip = block.norm1, block.norm2, block.time, block.skip
        self.conv1, self.conv2 = torchs(block.conv1), torchs(block.conv2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.skip(x)


def torchs(layer: WinogradConv2d) -> nn.Conv2d:
    """torch's convolution with the same weights."""
    replacement = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    replacement.load_state_dict(layer.state_dict())
    return replacement


PLAIN = {Attention: PlainAttention, ResidualBlock: PlainResidualBlock, WinogradConv2d: torchs}


def plain(model: FaceUNet) -> FaceUNet:
    """The same network with every layer of `PLAIN` replaced, on contiguous tensors."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in PLAIN:
                setattr(module, name, PLAIN[type(child)](child))
    return model.to(memory_format=torch.contiguous_format)


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    torch.manual_seed(0)
    ours = FaceUNet(FaceUNetConfig()).eval()
    fill_stably(ours)
    theirs = plain(ours).to(device)
    if not has_bf16(device):
        print("bf16: this device doesn't have it, so it stands for float32 below")
    bf16 = for_inference(copy.deepcopy(ours), device, "bf16")
    ours = for_inference(ours, device)
    x, t = torch.randn(1, 3, arguments.size, arguments.size, device=device), torch.tensor([500], device=device)
    networks = {"plain": theirs, "ours": ours, "bf16": bf16}
    seconds = best_seconds({name: partial(network, x, t) for name, network in networks.items()}, device, repeats=arguments.repeats)
    eps_bf16 = bf16(x, t).float()
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
