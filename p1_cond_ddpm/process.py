"""The reverse process as a picture: a row for every image of p1_cond_ddpm.sample --count, a column for every instant.

python3 -m p1_cond_ddpm.process process.png --weights runs/mnist/weights.pt --labels none \\
    --sampler ddpm --num-steps 1000 --guidance-scale 1
"""

import argparse
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.cli import command, some_path
from common.config import check_range, parse_options
from common.device import autocast, choose_device
from common.figures import save_figure
from common.images import grid, to_uint8
from p1_cond_ddpm.sample import parse_labels
from p1_cond_ddpm.sampling import WEIGHTS, SampleOptions, load_denoiser, numbered, sampler_steps, starting_noise
from p1_cond_ddpm.unet import UNet

ENLARGED = 5  # times


def instants(num_timesteps: int, parts: int) -> list[int]:
    """Timesteps that are left to do, from all to none, in equal parts."""
    return [round(num_timesteps * (parts - i) / parts) for i in range(parts + 1)]


@torch.inference_mode()
def reverse_process(
    model: UNet, labels: Tensor, seeds: Sequence[int], options: SampleOptions, *, parts: int
) -> tuple[Tensor, list[int]]:
    """x at the sampler's timesteps that are nearest to `instants`: (B, parts + 1, 3, 28, 28) uint8 on the CPU, for
    labels (B,).

    Beside it these timesteps, as those that are left to do.
    """
    num_timesteps = model.config.num_timesteps
    x_T, randn_like = starting_noise(model, seeds, labels.device)
    with autocast(labels.device, options.precision):
        steps = list(sampler_steps(model, labels, x_T, randn_like, options))
    left = [num_timesteps, *(step.t + 1 for step in steps[1:]), 0]  # timesteps, before every step and at the end
    states = [x_T, *(step.x for step in steps)]
    nearest = [
        min(range(len(left)), key=lambda i: abs(left[i] - instant)) for instant in instants(num_timesteps, parts)
    ]
    states[-1] = options.contrast * states[-1]
    return torch.stack([to_uint8(states[i]) for i in nearest], dim=1).cpu(), [left[i] for i in nearest]


def draw_process(pictures: Tensor, timesteps: Sequence[int]) -> Figure:
    """(B, instants, 3, H, W) uint8 pictures, enlarged, with the timesteps below."""
    columns = pictures.shape[1]
    laid_out = torch.nn.functional.interpolate(
        grid(pictures.flatten(0, 1), columns)[None], scale_factor=ENLARGED, mode="nearest"
    )[0]
    height, width = laid_out.shape[1:]
    figure = Figure(figsize=(width / 100, height / 100 + 0.3), dpi=100)
    figure.figimage(laid_out.permute(1, 2, 0).numpy(), 0, 30)
    for number, t in enumerate(timesteps):
        figure.text((number + 0.5) / columns, 8 / (height + 30), f"t = {t}", ha="center")
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=some_path, help="the picture to write")
    parser.add_argument("--weights", type=some_path, default=WEIGHTS, help="(default: the released ones)")
    parser.add_argument("--count", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--parts", type=int, default=7, help="equal parts of the timesteps (default: 7)")
    parser.add_argument("--labels", help="none, or digits that go round (default: 0123456789)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments, options = parse_options(parser, argv, SampleOptions)
    for name in ("count", "parts"):
        check_range(f"--{name}", getattr(arguments, name), 1, 100)
    check_range("--seed", arguments.seed, 0)
    device = choose_device(arguments.device)
    wanted = numbered(arguments.count, parse_labels(arguments.labels), arguments.seed)
    model = load_denoiser(arguments.weights, wanted, guided=options.guidance_scale != 1).to(device)
    labels, seeds = torch.tensor([one.label for one in wanted], device=device), [one.seed for one in wanted]
    pictures, timesteps = reverse_process(model, labels, seeds, options, parts=arguments.parts)
    save_figure(draw_process(pictures, timesteps), arguments.out, [arguments.weights])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
