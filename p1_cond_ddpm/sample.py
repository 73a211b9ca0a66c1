"""Digits from problem 1's network.

python3 -m p1_cond_ddpm.sample OUT_DIR                                      the graded 1000 images (hw2_1.sh)
python3 -m p1_cond_ddpm.sample OUT_DIR --count 10000 --labels none          numbered images without labels

Image NNN of digit D becomes OUT_DIR/D_NNN.png. With --count, images become OUT_DIR/00001.png and so on, those that are there
already are kept, and --labels says which digits they show. An image's noise is drawn from the seed of (--seed, D, NNN) or
(--seed, number), so it is the same whatever else is sampled with it.
"""
import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from common.checkpoint import load_network, load_weights
from common.cli import UserError, autocast, choose_device, command
from common.config import check_range, option, parse_options, to_json
from common.diffusion import Step, ddim, dpm_solver_pp_2m, last, trailing_timesteps
from common.digits import NULL_LABEL, SIZE
from common.download import CHECKPOINTS, sha256
from common.files import whole_file
from common.images import to_uint8, write_png
from common.rng import RandnLike, per_sample_noise, step_seed
from p1_cond_ddpm.loss import guided
from p1_cond_ddpm.unet import UNet, UNetConfig

WEIGHTS = CHECKPOINTS / "p1_mnistm.pt"
SAMPLERS = ("dpm", "ddim", "ddpm")


@dataclass(frozen=True)
class SampleOptions:
    """How to sample; the defaults are the graded images'."""

    sampler: str = option("dpm", "DPM-Solver++(2M), DDIM with eta = 0, or DDPM, which wants 1000 steps", choices=SAMPLERS)
    num_steps: int = option(8, "steps", smallest=1, largest=1000)
    spacing: float = option(1.0, "1 = even steps, less = smaller steps where there is much noise", smallest=0.1, largest=10)
    guidance_scale: float = option(3.5, "1 = off", smallest=0)
    guidance_interval: tuple[int, int] = option((0, 999), "first and last timestep with guidance", smallest=0)
    stretch: float = option(1.0, "factor of the result's contrast: 1.03 for data that is mostly black and white", smallest=1, largest=2)
    precision: str = option("bf16", "of the network, where the device has it", choices=("bf16", "float32"))

    def timesteps(self, num_timesteps: int) -> list[int]:
        """Where the sampler calls the network. Raises UserError where the steps don't fit."""
        if len(self.guidance_interval) != 2:
            raise UserError(f"--guidance-interval: give two timesteps, the first and the last, not {len(self.guidance_interval)}")
        try:
            return trailing_timesteps(num_timesteps, self.num_steps, spacing=self.spacing)
        except ValueError as error:
            raise UserError(str(error)) from None


def sampler_steps(model: UNet, labels: Tensor, x_T: Tensor, randn_like: RandnLike, options: SampleOptions) -> Iterator[Step]:
    """Every step of the chosen sampler from x_T (B, C, H, W), for labels (B,) int64; num_classes is the label of none."""
    schedule, null_label = model.config.noise_schedule(), model.config.num_classes
    denoise = guided(model, schedule, labels, scale=options.guidance_scale, null_label=null_label, interval=options.guidance_interval)
    timesteps = options.timesteps(len(schedule))
    if options.sampler == "dpm":
        return dpm_solver_pp_2m(denoise, x_T, schedule, timesteps, clip_x_0=True)
    eta = 1.0 if options.sampler == "ddpm" else 0.0
    return ddim(denoise, x_T, schedule, timesteps, eta=eta, clip_x_0=True, randn_like=randn_like)


def starting_noise(model: UNet, seeds: Sequence[int], device: torch.device) -> tuple[Tensor, RandnLike]:
    """x_T (B, C, 28, 28), and where further noise comes from."""
    randn_like = per_sample_noise(seeds)
    return randn_like(torch.empty(len(seeds), model.config.image_channels, SIZE, SIZE, device=device)), randn_like


@torch.inference_mode()
def sample_digits(
    model: UNet, labels: Tensor, seeds: Sequence[int], options: SampleOptions, on_step: Callable[[int], object] = lambda images: None
) -> Tensor:
    """One image per label (B,) int64 and seed: (B, 3, 28, 28) uint8 on the labels' device. `on_step` gets B after every step."""
    x_T, randn_like = starting_noise(model, seeds, labels.device)
    with autocast(labels.device, options.precision):
        return to_uint8(options.stretch * last(sampler_steps(model, labels, x_T, randn_like, options), on_step).x)


class Wanted(NamedTuple):
    """An image to be sampled."""

    name: str
    label: int
    seed: int


def digits_by_number(per_digit: int, seed: int) -> list[Wanted]:
    """D_NNN.png for the numbers 1 to per_digit of each digit D."""
    return [Wanted(f"{d}_{n:03d}.png", d, step_seed(seed, d, n)) for d in range(10) for n in range(1, per_digit + 1)]


def numbered(count: int, labels: Sequence[int], seed: int) -> list[Wanted]:
    """00001.png and so on, whose labels go round."""
    return [Wanted(f"{n:05d}.png", labels[(n - 1) % len(labels)], step_seed(seed, n)) for n in range(1, count + 1)]


def draw_digits(
    model: UNet, options: SampleOptions, wanted: Sequence[Wanted], *, batch_size: int, device: torch.device
) -> Iterator[tuple[Wanted, Tensor]]:
    """Yield every wanted image, (3, 28, 28) uint8, in order, with a progress bar."""
    with tqdm(total=len(wanted) * options.num_steps, unit="step", desc=options.sampler.upper()) as bar:
        for start in range(0, len(wanted), batch_size):
            batch = wanted[start : start + batch_size]
            labels = torch.tensor([one.label for one in batch], device=device)
            yield from zip(batch, sample_digits(model, labels, [one.seed for one in batch], options, bar.update))


def still_wanted(folder: Path, wanted: list[Wanted], how: dict[str, Any]) -> list[Wanted]:
    """What a folder of numbered images lacks. Raises UserError where it has images, but not sampled in this way."""
    note, described = folder / ".sampling.json", json.dumps(how)
    if any(folder.glob("[0-9]*.png")) and not (note.is_file() and note.read_text() == described):
        raise UserError(f"{folder}: holds images of other weights or options; give the same ones, or another folder")
    with whole_file(note) as temporary:
        temporary.write_text(described)
    return [one for one in wanted if not (folder / one.name).is_file()]


def parse_labels(text: str | None) -> list[int]:
    """'none' or a row of digits -> labels, all digits without a text. Raises UserError for anything else."""
    if text is None:
        return list(range(10))
    if text == "none":
        return [NULL_LABEL]
    if not re.fullmatch("[0-9]+", text):
        raise UserError(f"--labels {text}: give none, or digits such as 0123456789, which go round")
    return [int(digit) for digit in text]


def add_wanted_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--per-digit", type=int, default=100, help="images per digit (default: 100)")
    parser.add_argument("--count", type=int, help="numbered images instead")
    parser.add_argument("--labels", help="of numbered images: none, or digits that go round (default: 0123456789)")


def wanted_images(arguments: argparse.Namespace) -> list[Wanted]:
    """What the options of `add_wanted_options` and --seed ask for. Raises UserError where they contradict or are out of range."""
    check_range("--seed", arguments.seed, 0)
    if arguments.count is not None:
        check_range("--count", arguments.count, 1, 99_999)
        return numbered(arguments.count, parse_labels(arguments.labels), arguments.seed)
    if arguments.labels is not None:
        raise UserError("--labels: give --count, too; without it every digit is drawn")
    check_range("--per-digit", arguments.per_digit, 1, 999)
    return digits_by_number(arguments.per_digit, arguments.seed)


def load_denoiser(path: Path, wanted: Sequence[Wanted], *, guided: bool) -> UNet:
    """The network of a weight file. Raises UserError where it isn't one, or wasn't trained for such labels or for guidance."""
    metadata, unlabelled = load_weights(path).metadata, [one.label == NULL_LABEL for one in wanted]
    hidden = metadata.get("train", {}).get("label_dropout") if metadata.get("labelled", True) else 1
    if hidden == 1 and not all(unlabelled):
        raise UserError(f"{path}: trained without labels; give --count and --labels none")
    if hidden == 0 and (guided or any(unlabelled)):
        raise UserError(f"{path}: trained on labels alone; give --guidance-scale 1 and no --labels none")
    return load_network(path, UNet, UNetConfig)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="(default: the released ones)")
    add_wanted_options(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=100, help="changes the images by one grey level at most (default: 100)")
    parser.add_argument("--device", default="auto")
    arguments, options = parse_options(parser, argv, SampleOptions)
    check_range("--batch-size", arguments.batch_size, 1)
    wanted, device = wanted_images(arguments), choose_device(arguments.device)
    model = load_denoiser(arguments.weights, wanted, guided=options.guidance_scale != 1).to(device)
    options.timesteps(model.config.num_timesteps)  # refused before anything is written
    if arguments.count is not None:
        how = {"weights": sha256(arguments.weights), "labels": parse_labels(arguments.labels), "seed": arguments.seed, **to_json(options)}
        wanted = still_wanted(arguments.out_dir, wanted, how)
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    for one, image in draw_digits(model, options, wanted, batch_size=arguments.batch_size, device=device):
        write_png(arguments.out_dir / one.name, image)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
