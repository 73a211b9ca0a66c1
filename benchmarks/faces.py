"""One step of problem 2's network at 256 x 256 against the same network written plainly, in one run.

python3 -m benchmarks.faces

The plain network is the one that trains, on contiguous tensors: every normalisation, activation and convolution is a
call of its own. Every time is the best of several, taken in turns. The last lines give the ratios and the share of the
machine's measured matrix-product peak; Winograd's convolutions count as what they stand for, so the share may exceed
one.
"""

import argparse
import copy
from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.measure import best_seconds, matmul_peak, multiply_adds
from common.cli import add_device, command
from common.device import choose_device, has_bf16
from p2_ddim.sampling import for_inference
from p2_ddim.unet import FaceUNet, FaceUNetConfig


def fill_stably(network: FaceUNet) -> None:
    """Random weights with which no value grows from layer to layer."""
    for name, parameter in network.named_parameters():
        n = torch.randn(parameter.shape)
        if parameter.ndim > 1:
            n = (
                n
                / parameter[0].numel() ** 0.5
                * (0.1 if name.endswith(("conv2.weight", "attention.out.weight")) else 1.0)
            )
        else:
            n = 0.1 * n + name.endswith("weight")
        parameter.data.copy_(n)


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the image (default: 256)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the fastest counts (default: 5)")
    add_device(parser)
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    torch.manual_seed(0)
    plain = FaceUNet(FaceUNetConfig()).eval().to(device)
    fill_stably(plain)
    if not has_bf16(device):
        print("bf16: this device doesn't have it, so it stands for float32 below")
    bf16 = for_inference(copy.deepcopy(plain), device, "bf16")
    ours = for_inference(copy.deepcopy(plain), device)
    x, t = torch.randn(1, 3, arguments.size, arguments.size, device=device), torch.tensor([500], device=device)
    networks = {"plain": plain, "ours": ours, "bf16": bf16}
    seconds = best_seconds(
        {name: partial(network, x, t) for name, network in networks.items()}, device, repeats=arguments.repeats
    )
    eps_bf16 = bf16(x, t).float()
    eps, eps_plain = ours(x, t), plain(x, t)
    print(
        f"one step of one {arguments.size} x {arguments.size} image, seconds: "
        + ", ".join(f"{k} {v:.3f}" for k, v in seconds.items())
    )
    print(
        f"speed: ours {seconds['plain'] / seconds['ours']:.2f} times plain, "
        f"bf16 {seconds['ours'] / seconds['bf16']:.2f} times ours"
    )
    for name, other in (("plain", eps_plain), ("bf16", eps_bf16)):
        difference = ((eps - other).abs().max() / eps.abs().max()).item()
        print(f"largest difference of eps to {name}: {difference:.1e} of the largest value")
    work, peak = multiply_adds(plain, x, t), matmul_peak(device)
    print(f"multiply-adds of one step: {work / 1e9:.0f} G; matrix-product peak {peak / 1e9:.0f} G/s")
    print(f"share of the peak: plain {work / seconds['plain'] / peak:.0%}, ours {work / seconds['ours'] / peak:.0%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
