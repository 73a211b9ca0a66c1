"""Quality and cost of many settings of the sampler, one CSV row each; what the CSV has is not measured again.

python3 -m p1_cond_ddpm.sweep --data hw2_data/digits/mnistm --cache runs/features --out docs/p1_sweep.csv \\
    --num-steps 8 10 15 --guidance-scale 1 2 3

Every combination of the given values is measured on 1000 images: accuracy by our own judge (the course's never selects),
FID-768 against val, passes through the network per image, seconds.
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

from common.checkpoint import load_network
from common.cli import choose_device, command
from common.config import from_json, to_json
from common.digits import load_digits
from common.download import sha256
from common.fid import features, frechet_distance
from common.files import whole_file
from p1_cond_ddpm import judge
from p1_cond_ddpm.evaluate import accuracy
from p1_cond_ddpm.sample import SAMPLERS, WEIGHTS, SampleOptions, Wanted, digits_by_number, draw_digits
from p1_cond_ddpm.unet import UNet, UNetConfig


def as_row(weights: Path, options: SampleOptions) -> dict[str, Any]:
    """What a row of the CSV says of the weights and options."""
    return {"weights": sha256(weights)[:8], **to_json(options), "guidance_interval": "{}-{}".format(*options.guidance_interval)}


def passes_per_image(options: SampleOptions, num_timesteps: int) -> int:
    """Passes through the network: two where guidance is on, else one."""
    first, last = options.guidance_interval
    timesteps = options.timesteps(num_timesteps)
    return len(timesteps) + (options.guidance_scale != 1) * sum(first <= t <= last for t in timesteps)


def measure(drawn: Iterable[tuple[Wanted, Tensor]], reference: np.ndarray) -> dict[str, float]:
    """The own judge's accuracy, FID-768 and the seconds of drawing."""
    start = time.perf_counter()
    wanted, pictures = zip(*drawn)
    seconds = time.perf_counter() - start
    images = torch.stack(pictures).cpu()
    fid = frechet_distance(features(images.permute(0, 2, 3, 1).numpy()), reference)
    own = accuracy(images, torch.tensor([one.label for one in wanted]), judge.OWN)
    return {"own_judge": round(own, 4), "fid768": round(fid, 4), "seconds": round(seconds, 1)}


@command
def main(argv: Sequence[str] | None = None) -> int:
    default = SampleOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="MNIST-M's folder")
    parser.add_argument("--cache", type=Path, help="folder in which val's features for FID-768 are kept between calls")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to add to")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=1, help="not the graded images', which is 0 (default: 1)")
    parser.add_argument("--per-digit", type=int, default=100)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=[default.sampler])
    parser.add_argument("--num-steps", type=int, nargs="+", default=[default.num_steps])
    parser.add_argument("--spacing", type=float, nargs="+", default=[default.spacing])
    parser.add_argument("--guidance-scale", type=float, nargs="+", default=[default.guidance_scale])
    parser.add_argument("--guidance-interval", type=int, nargs=2, action="append", metavar="T", help="may be repeated")
    parser.add_argument("--precision", nargs="+", choices=("bf16", "float32"), default=[default.precision])
    arguments = parser.parse_args(argv)
    arguments.guidance_interval = arguments.guidance_interval or [default.guidance_interval]
    device = choose_device(arguments.device)
    model = load_network(arguments.weights, UNet, UNetConfig).to(device)
    val = load_digits(arguments.data, "val.csv").images
    reference = features(val.permute(0, 2, 3, 1).numpy(), arguments.cache)
    rows = pd.read_csv(arguments.out, dtype={"weights": str}).to_dict("records") if arguments.out.is_file() else []
    names = [f.name for f in fields(SampleOptions)]
    for values in itertools.product(*(getattr(arguments, name) for name in names)):
        options = from_json(SampleOptions, dict(zip(names, values)))
        row = {**as_row(arguments.weights, options), "seed": arguments.seed, "images": 10 * arguments.per_digit}
        if any(row.items() <= known.items() for known in rows):
            continue
        drawn = draw_digits(model, options, digits_by_number(arguments.per_digit, arguments.seed), batch_size=100, device=device)
        rows.append({**row, "passes": passes_per_image(options, model.config.num_timesteps), **measure(drawn, reference)})
        with whole_file(arguments.out) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
        print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
