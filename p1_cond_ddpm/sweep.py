"""Quality and cost of many settings of the sampler, one CSV row each; what the CSV has is not measured again.

python3 -m p1_cond_ddpm.sweep --data hw2_data/digits/mnistm --cache runs/features --out docs/p1_sweep.csv \\
    --num-steps 8 10 15 --guidance-scale 1 2 3
python3 -m p1_cond_ddpm.sweep --weights checkpoints/p1_mnist.pt --reference mnist.npz:0:10000 --count 2000 --labels none \\
    --guidance-scale 1 --num-steps 8 10 15 --cache runs/features --out docs/p1_mnist_sweep.csv

Every combination of the given values is measured on digits of every class, or with --count on numbered images: accuracy by our
own judge where labels are digits (the course's judge never selects), FID-768, density and coverage against MNIST-M's val or
--reference, passes through the network per image, seconds.
"""
import argparse
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common.cli import choose_device, command
from common.config import from_json, to_json
from common.digits import NULL_LABEL, load_digits
from common.download import sha256
from common.fid import density_and_coverage, features, frechet_distance, read_set
from common.files import whole_file
from p1_cond_ddpm import judge
from p1_cond_ddpm.evaluate import accuracy
from p1_cond_ddpm.sample import (
    SAMPLERS,
    WEIGHTS,
    SampleOptions,
    Wanted,
    add_wanted_options,
    draw_digits,
    load_denoiser,
    wanted_images,
)


def as_row(weights: Path, options: SampleOptions) -> dict[str, Any]:
    """What a row of the CSV says of the weights and options."""
    return {"weights": sha256(weights)[:8], **to_json(options), "guidance_interval": "{}-{}".format(*options.guidance_interval)}


def passes_per_image(options: SampleOptions, num_timesteps: int) -> int:
    """Passes through the network: two where guidance is on, else one."""
    first, last = options.guidance_interval
    timesteps = options.timesteps(num_timesteps)
    return len(timesteps) + (options.guidance_scale != 1) * sum(first <= t <= last for t in timesteps)


def measure(drawn: Iterable[tuple[Wanted, Tensor]], reference: np.ndarray) -> dict[str, float]:
    """The own judge's accuracy where there are labels, FID-768, density, coverage, and the seconds of drawing."""
    start = time.perf_counter()
    wanted, pictures = zip(*drawn)
    seconds = time.perf_counter() - start
    images = torch.stack(pictures).cpu()
    labels = torch.tensor([one.label for one in wanted])
    own = float("nan") if (labels == NULL_LABEL).any() else accuracy(images, labels, judge.OWN)
    ours = features(images.permute(0, 2, 3, 1).numpy())
    density, coverage = density_and_coverage(ours, reference)
    quality = {"own_judge": own, "fid768": frechet_distance(ours, reference), "density": density, "coverage": coverage}
    return {name: round(value, 4) for name, value in quality.items()} | {"seconds": round(seconds, 1)}


@command
def main(argv: Sequence[str] | None = None) -> int:
    default = SampleOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = parser.add_mutually_exclusive_group(required=True)
    sets.add_argument("--data", type=Path, help="MNIST-M's folder, for its val")
    sets.add_argument("--reference", help="real images, PATH or PATH:FIRST:END (see common.fid)")
    parser.add_argument("--cache", type=Path, help="folder in which the real images' features are kept between calls")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to add to")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=1, help="not the graded images', which is 0 (default: 1)")
    add_wanted_options(parser)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=[default.sampler])
    parser.add_argument("--num-steps", type=int, nargs="+", default=[default.num_steps])
    parser.add_argument("--spacing", type=float, nargs="+", default=[default.spacing])
    parser.add_argument("--guidance-scale", type=float, nargs="+", default=[default.guidance_scale])
    parser.add_argument("--guidance-interval", type=int, nargs=2, action="append", metavar="T", help="may be repeated")
    parser.add_argument("--precision", nargs="+", choices=("bf16", "float32"), default=[default.precision])
    arguments = parser.parse_args(argv)
    arguments.guidance_interval = arguments.guidance_interval or [default.guidance_interval]
    wanted, device = wanted_images(arguments), choose_device(arguments.device)
    model = load_denoiser(arguments.weights, wanted).to(device)
    given = {"seed": arguments.seed, "images": len(wanted)}
    if arguments.data:
        real = load_digits(arguments.data, "val.csv").images.permute(0, 2, 3, 1).numpy()
    else:
        real = read_set(arguments.reference, None)
        given |= {"reference": Path(arguments.reference).name, "labels": arguments.labels}
    reference = features(real, arguments.cache)
    rows = pd.read_csv(arguments.out, dtype={"weights": str, "labels": str}).to_dict("records") if arguments.out.is_file() else []
    names = [f.name for f in fields(SampleOptions)]
    for values in itertools.product(*(getattr(arguments, name) for name in names)):
        options = from_json(SampleOptions, dict(zip(names, values)))
        row = {**as_row(arguments.weights, options), **given}
        if any(row.items() <= known.items() for known in rows):
            continue
        drawn = draw_digits(model, options, wanted, batch_size=100, device=device)
        rows.append({**row, "passes": passes_per_image(options, model.config.num_timesteps), **measure(drawn, reference)})
        with whole_file(arguments.out) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
        print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
