"""The reverse process as a picture: a row for every image of p1_cond_ddpm.sample --count, a column for every instant.

python3 -m p1_cond_ddpm.process process.png --weights runs/mnist/weights.pt --labels none \\
    --sampler ddpm --num-steps 1000 --spacing 1 --guidance-scale 1
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.cli import add_device, command, some_path
from common.config import check_range, parse_options
from common.device import autocast, choose_device
from common.figures import new_figure, save_figure, show_pictures, styled
from common.images import to_uint8
from p1_cond_ddpm.sample import parse_labels
from p1_cond_ddpm.sampling import (
    WEIGHTS,
    SampleOptions,
    load_denoiser,
    numbered,
    sampler_steps,
    starting_noise,
    usable_options,
)
from p1_cond_ddpm.unet import UNet

WIDTH = 4.9  # inches of the picture


def instants(num_timesteps: int, parts: int) -> list[int]:
    """Timesteps that are left to do, from all to none, in equal parts."""
    return [round(num_timesteps * (parts - i) / parts) for i in range(parts + 1)]


class Process(NamedTuple):
    """The reverse process at some instants."""

    timesteps: list[int]  # left to do at each instant
    pictures: Tensor  # (B, instants, 3, 28, 28) uint8 on the CPU: x_t
    estimates: Tensor  # the same of x_0, as the network sees it in x_t


@torch.inference_mode()
def reverse_process(
    model: UNet, labels: Tensor, seeds: Sequence[int], options: SampleOptions, *, parts: int
) -> Process:
    """What the sampler does for labels (B,), at those of its timesteps that are nearest to `instants`."""
    num_timesteps = model.config.num_timesteps
    x_T, randn_like = starting_noise(model, seeds, labels.device)
    with autocast(labels.device, options.precision):
        steps = list(sampler_steps(model, labels, x_T, randn_like, options))
    left = [num_timesteps, *(step.t + 1 for step in steps[1:]), 0]  # timesteps, before every step and at the end
    result = options.contrast * steps[-1].x
    states, estimates = [x_T, *(step.x for step in steps[:-1]), result], [*(step.x_0 for step in steps), result]
    nearest = [
        min(range(len(left)), key=lambda i: abs(left[i] - instant)) for instant in instants(num_timesteps, parts)
    ]
    shown = (torch.stack([to_uint8(images[i]) for i in nearest], dim=1).cpu() for images in (states, estimates))
    return Process([left[i] for i in nearest], *shown)


@styled
def draw_process(process: Process, *, width: float, estimates: bool = False) -> Figure:
    """A row for every image, a column for every instant; with the estimates of x_0, a second row below each."""
    count, columns = process.pictures.shape[:2]
    pictures, rows = process.pictures, [""] * count
    if estimates:
        pictures = torch.stack([process.pictures, process.estimates], dim=1).flatten(0, 1)
        rows = ["$x_t$", "estimate\nof $x_0$"] * count
    figure = new_figure(width, width * len(rows) / columns * (0.9 if estimates else 1) + 0.2)
    names = [f"t = {process.timesteps[0]}", *map(str, process.timesteps[1:])]
    show_pictures(figure.subplots(), pictures.flatten(0, 1), columns, rows=rows, names=names)
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=some_path, help="the picture to write")
    parser.add_argument("--weights", type=some_path, default=WEIGHTS, help="(default: the released ones)")
    parser.add_argument("--count", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--parts", type=int, default=7, help="equal parts of the timesteps (default: 7)")
    parser.add_argument("--labels", help="none, or digits that go round (default: 0123456789)")
    parser.add_argument("--seed", type=int, default=0, help="from which every image's seed comes (default: 0)")
    parser.add_argument("--estimates", action="store_true", help="show the estimate of x_0 below every image, too")
    add_device(parser)
    arguments, options = parse_options(parser, argv, SampleOptions)
    for name in ("count", "parts"):
        check_range(f"--{name}", getattr(arguments, name), 1, 100)
    check_range("--seed", arguments.seed, 0)
    device = choose_device(arguments.device)
    wanted = numbered(arguments.count, parse_labels(arguments.labels), arguments.seed)
    model = load_denoiser(arguments.weights, wanted, guided=options.guidance_scale != 1).to(device)
    options = usable_options(model, options)
    labels, seeds = torch.tensor([one.label for one in wanted], device=device), [one.seed for one in wanted]
    process = reverse_process(model, labels, seeds, options, parts=arguments.parts)
    figure = draw_process(process, width=WIDTH, estimates=arguments.estimates)
    save_figure(figure, arguments.out, [arguments.weights])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
