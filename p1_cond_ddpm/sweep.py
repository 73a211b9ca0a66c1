"""Quality and cost of many settings of the sampler, one CSV row each; what the CSV has is not measured again.

python3 -m p1_cond_ddpm.sweep --data hw2_data/digits/mnistm --cache runs/features --out docs/p1_sweep.csv \\
    --num-steps 8 10 15 --guidance-scale 1 2 3
python3 -m p1_cond_ddpm.sweep --weights checkpoints/p1_mnist.pt --reference mnist.npz:0:10000 --count 1000 \\
    --labels none --guidance-scale 1 --sampler ddpm --num-steps 15 18 36 --cache runs/features \\
    --real mnist.npz:10000:20000 --out docs/p1_mnist_sweep.csv

Every combination of the given values is measured on digits of every class, or with --count on numbered images: accuracy
by our own judge where labels are digits (the course's judge never selects), FID-768, density and coverage against
MNIST-M's val or --reference, variety of strokes against MNIST-M's val, passes through the network per image, seconds.
A last row has what real images reach: further ones of val, or with --reference those of --real.
"""

import argparse
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import torch
from torch import Tensor

from common.cli import UserError, add_device, command, some_path
from common.config import check_range, checked, from_json
from common.device import choose_device, usable_precision
from common.digits import NULL_LABEL, load_digits
from common.fid import read_set
from common.measurements import Measurements
from p1_cond_ddpm import judge
from p1_cond_ddpm.evaluate import as_row
from p1_cond_ddpm.sample import add_image_options, requested_images
from p1_cond_ddpm.sampling import (
    GRADED,
    INTERVALS,
    WEIGHTS,
    ImageSpec,
    SampleOptions,
    load_denoiser,
    sample_images,
    usable_options,
)
from p1_cond_ddpm.scores import Reference, accuracy, real_row
from p1_cond_ddpm.unet import UNetConfig


def passes_per_image(options: SampleOptions, config: UNetConfig, *, labelled: bool = True) -> int:
    """Passes through the network, not its guide or head: one a step, and one more at steps that compute classifier-free
    guidance, where no head predicts it.
    """
    timesteps = options.timesteps(config.num_timesteps)
    if not labelled or options.guidance_scale == 1:
        return len(timesteps)
    first, last = options.guidance_interval
    computed = [t for t in timesteps if first <= t <= last][:: options.guidance_every]
    by_head = config.head_interval if options.guidance_head and config.head_interval else (1, 0)
    return len(timesteps) + sum(not by_head[0] <= t <= by_head[1] for t in computed)


def judged(images: Tensor, labels: Tensor) -> dict[str, float]:
    """The own judge's accuracy, nan where there are no labels."""
    return {"own_judge": float("nan") if (labels == NULL_LABEL).any() else accuracy(images, labels, judge.OWN)}


def measure(sampled: Iterable[tuple[ImageSpec, Tensor]], reference: Reference) -> dict[str, float]:
    """The own judge's accuracy, quality and variety, and the seconds of sampling."""
    start = time.perf_counter()
    specs, pictures = zip(*sampled)
    seconds = time.perf_counter() - start
    images, labels = torch.stack(pictures).cpu(), torch.tensor([spec.label for spec in specs])
    return {**judged(images, labels), **reference.scores(images, labels), "seconds": round(seconds, 1)}


def add_setting_options(parser: argparse.ArgumentParser) -> None:
    """The options of `SampleOptions` with several values each; the defaults are the graded images'."""
    group = parser.add_argument_group("Settings: every combination is measured")
    types = get_type_hints(SampleOptions)
    for f in fields(SampleOptions):
        flag, text = "--" + f.name.replace("_", "-"), f"{f.metadata['help']} (default: {f.default})"
        if f.name in INTERVALS:
            group.add_argument(flag, type=int, nargs=2, action="append", metavar="T", help=f"{text}; may be repeated")
        elif types[f.name] is bool:
            group.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=f.default, help=f"{text}; for all settings"
            )
        else:
            choices = f.metadata.get("choices")
            group.add_argument(flag, type=types[f.name], nargs="+", choices=choices, default=[f.default], help=text)


def read_reference(arguments: argparse.Namespace) -> tuple[Reference, str]:
    """What --data or --reference names, and its name in the CSV."""
    if arguments.data:
        val = load_digits(arguments.data, "val.csv")
        return Reference(val.images, val.labels, arguments.cache), f"{arguments.data.resolve().name} val"
    images = torch.from_numpy(read_set(arguments.reference, None)).permute(0, 3, 1, 2)
    return Reference(images, None, arguments.cache), Path(arguments.reference).name


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = parser.add_mutually_exclusive_group(required=True)
    sets.add_argument("--data", type=some_path, help="MNIST-M's folder, for its val")
    sets.add_argument("--reference", help="real images, PATH or PATH:FIRST:END (see common.fid)")
    parser.add_argument("--real", help="further real images to compare with --reference, PATH or PATH:FIRST:END")
    parser.add_argument("--cache", type=some_path, help="folder that keeps the real images' features between calls")
    parser.add_argument("--out", type=some_path, required=True, help="the CSV to add to")
    parser.add_argument("--weights", type=some_path, default=WEIGHTS, help="(default: the released ones)")
    parser.add_argument("--seed", type=int, default=1, help="not the graded images', which is 0 (default: 1)")
    add_image_options(parser)
    add_device(parser)
    add_setting_options(parser)
    arguments = parser.parse_args(argv)
    for name in INTERVALS:
        setattr(arguments, name, getattr(arguments, name) or [getattr(GRADED, name)])
    arguments.guidance_head = [arguments.guidance_head]
    names = [f.name for f in fields(SampleOptions)]
    products = itertools.product(*(getattr(arguments, name) for name in names))
    settings = [checked(from_json(SampleOptions, dict(zip(names, values)))) for values in products]
    images, device = requested_images(arguments), choose_device(arguments.device)
    settings = [replace(options, precision=usable_precision(device, options.precision)) for options in settings]
    check_range("images", len(images), 2)
    if arguments.real and arguments.data:
        raise UserError("--real: give it with --reference; with --data, further images of val are the real ones")
    labelled = all(one.label != NULL_LABEL for one in images)
    model = load_denoiser(
        arguments.weights, images, guided=any(options.guidance_scale != 1 for options in settings)
    ).to(device)
    settings = [usable_options(model, options) for options in settings]
    passes = [passes_per_image(options, model.config, labelled=labelled) for options in settings]
    real = torch.from_numpy(read_set(arguments.real, None)).permute(0, 3, 1, 2) if arguments.real else None
    measurements = Measurements(arguments.out)
    reference, name = read_reference(arguments)
    labels = "each" if arguments.count is None else arguments.labels or "0123456789"
    for options, passed in zip(settings, passes):
        row = {
            **as_row(arguments.weights, options),
            "seed": arguments.seed,
            "images": len(images),
            "reference": name,
            "labels": labels,
        }
        if not measurements.has(row):
            sampled = sample_images(model, options, images)
            measurements.add({**row, "passes": passed, **measure(sampled, reference)})
    row = {**real_row(len(images if real is None else real)), "reference": name}
    if not measurements.has(row):
        found = reference.real_scores(arguments.per_digit, judged) if real is None else reference.quality(real)
        if found:
            measurements.add({**row, "passes": 0, **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
