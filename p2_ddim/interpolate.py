"""Faces between two noises: spherical and linear interpolation, a row each, and the length of the noises below.

python3 -m p2_ddim.interpolate UNET_PT OUT.svg --noise-dir hw2_data/face/noise      its first two noises
python3 -m p2_ddim.interpolate checkpoints/p2_celeba32.pt OUT.svg                   two noises from a seed
"""

import argparse
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.cli import add_device, command, some_path
from common.config import check_range
from common.device import choose_device
from common.diffusion import Denoiser
from common.figures import BLUE, GREY, ORANGE, PAGE, new_figure, save_figure, show_pictures, styled
from p2_ddim.noise import starting_noises
from p2_ddim.sampling import for_inference, lerp, sample_faces, slerp, to_pictures
from p2_ddim.unet import load_face_unet

WAYS = {"slerp": (slerp, BLUE), "linear": (lerp, ORANGE)}
NUM_WEIGHTS = 11  # 0, 0.1, ..., 1


@styled
def draw_interpolation(denoise: Denoiser, z_0: Tensor, z_1: Tensor, *, num_weights: int = NUM_WEIGHTS) -> Figure:
    """Faces from mixes of two noises (1, 3, H, W), and how long these mixes are."""
    weights = torch.linspace(0, 1, num_weights).tolist()
    noises = {name: torch.cat([way(z_0, z_1, w) for w in weights]) for name, (way, _) in WAYS.items()}
    faces = torch.cat([to_pictures(sample_faces(denoise, z)) for z in noises.values()])
    figure = new_figure(PAGE, 2.6)
    above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
    show_pictures(above, faces, num_weights, rows=list(WAYS))
    for (name, (_, colour)), marker in zip(WAYS.items(), "os"):
        length = noises[name].flatten(1).norm(dim=1).cpu() / z_0.numel() ** 0.5
        below.plot(weights, length, color=colour, marker=marker, label=name)
    below.axhline(1, color=GREY, linestyle=":")
    below.set_xlabel("share α of the second noise")
    below.set_ylabel(r"length / $\sqrt{d}$")
    below.legend()
    return figure


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unet_pt", type=some_path, help="the course's UNet.pt, or weights of p2_ddim.train")
    parser.add_argument("out", type=some_path, help="the figure to write, .svg or .png")
    parser.add_argument("--noise-dir", type=some_path, help="folder whose first two noises are taken (default: seeded)")
    parser.add_argument("--size", type=int, default=32, help="side of noises from a seed (default: 32)")
    parser.add_argument("--points", type=int, default=NUM_WEIGHTS, help="faces in a row, ends included (default: 11)")
    add_device(parser)
    arguments = parser.parse_args(argv)
    check_range("--points", arguments.points, 2, 100)
    device = choose_device(arguments.device)
    z_0, z_1 = starting_noises(arguments.noise_dir, arguments.size, 2).to(device).split(1)
    model = for_inference(load_face_unet(arguments.unet_pt), device)
    figure = draw_interpolation(model, z_0, z_1, num_weights=arguments.points)
    save_figure(figure, arguments.out, [arguments.unet_pt])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
