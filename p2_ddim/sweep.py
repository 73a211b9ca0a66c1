"""A face network by number of DDIM steps, one CSV row each; what the CSV has is not measured again.

python3 -m p2_ddim.sweep checkpoints/p2_celeba32.pt --data celeba64.npz:0:3000 --real celeba64.npz:3000:4000 \\
    --size 32 --cache runs/features --out docs/p2_steps.csv
python3 -m p2_ddim.sweep checkpoints/p2_celeba32.pt --count 8 --out docs/p2_paths.csv       without data: no quality

Faces of the same seeded noises at every number of steps. With --data: FID-768, density and coverage against the data,
brought to the network's size; with --training, the median distance to the nearest training face or its mirror image,
which tells copies from new faces; with --real, a last row of other real faces. Of the first few faces: distance to
those of as many steps as there are timesteps, and inversion, the distance to the faces that come from the noises to
which they are inverted. Distances are root mean squares in grey levels. Seconds are of the sampling.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from common.checkpoint import weights_id
from common.cli import UserError, add_device, command, some_path
from common.config import check_range
from common.device import choose_device, usable_precision
from common.fid import quality, read_set
from common.images import nearest_distance, to_uint8
from common.inception import features
from common.measurements import Measurements, read_measurements
from p2_ddim.noise import seeded_noises
from p2_ddim.sampling import NUM_TIMESTEPS, for_inference, invert_faces, rmse, sample_faces, to_pictures
from p2_ddim.unet import FaceUNet, load_face_unet

STEPS = (10, 20, 50, 100, 250)
MOST_STEPS = NUM_TIMESTEPS - 1  # what the others are compared with
COMPARED = 16  # faces, as that takes long
REAL = "real"  # in place of weights in a CSV


@dataclass(frozen=True)
class Sampler:
    """A network with one convention of what becomes of eps where x_0 was clipped (see `sample_faces`)."""

    model: FaceUNet
    renewed: bool

    def faces(self, noises: Tensor, steps: int, *, batch_size: int = 100) -> Tensor:
        """Of noises (N, 3, H, W), not clipped."""
        device = next(self.model.parameters()).device
        how: dict[str, Any] = {"num_steps": steps, "use_clipped_model_output": self.renewed}
        with tqdm(total=len(noises) * steps, unit="step", desc=f"{steps} steps") as bar:
            batches = noises.to(device).split(batch_size)
            return torch.cat([sample_faces(self.model, batch, on_step=bar.update, **how) for batch in batches])

    def inversion_error(self, faces: Tensor, steps: int) -> float:
        """From image to noise to image, in grey levels."""
        x_0 = faces.clamp(-1, 1)
        again = self.faces(invert_faces(self.model, x_0, num_steps=steps), steps)
        return rmse(to_uint8(x_0.cpu()), to_uint8(again.cpu()))


def nearest_in_training(faces: np.ndarray, training: np.ndarray) -> dict[str, float]:
    """The median distance of faces (N, H, W, 3) uint8 to the nearest training face (M, H, W, 3) or its mirror image."""
    ours, theirs = (torch.from_numpy(some).permute(0, 3, 1, 2) for some in (faces, training))
    either = torch.minimum(nearest_distance(ours, theirs), nearest_distance(ours.flip(3), theirs))
    return {"nearest": either.median().item()}


def measured(path: Path, unet_pt: Path) -> pd.DataFrame:
    """A CSV's rows of one network, by steps; where both precisions were measured, bf16's.

    Raises UserError where it has none.
    """
    table = read_measurements(path, ["steps", "precision", "use_clipped_model_output"])
    rows = table[table["weights"] == weights_id(unet_pt)].sort_values(["steps", "precision"])
    if rows.empty:
        raise UserError(f"{path}: no row of {unet_pt}; measure it with p2_ddim.sweep")
    return rows.drop_duplicates(["steps", "use_clipped_model_output"])


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unet_pt", type=some_path, help="the course's UNet.pt, or weights of p2_ddim.train")
    parser.add_argument("--data", help="real faces, PATH or PATH:FIRST:END (see common.fid)")
    parser.add_argument("--real", help="other real faces, for a row of what they reach against --data")
    parser.add_argument("--training", help="the network's training faces, for the distance to the nearest of them")
    parser.add_argument("--size", type=int, default=32, help="side of the faces (default: 32)")
    parser.add_argument("--count", type=int, default=1000, help="faces per row (default: 1000)")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help=f"(default: {STEPS})")
    parser.add_argument("--keep-eps", action="store_true", help="keep eps where x_0 was clipped, as hw2_2.sh does")
    parser.add_argument("--seed", type=int, default=0, help="of the noises (default: 0)")
    parser.add_argument(
        "--precision", choices=("float32", "bf16", "fp16"), default="float32", help="(default: float32)"
    )
    parser.add_argument("--cache", type=some_path, help="folder in which the data's features are kept between calls")
    parser.add_argument("--out", type=some_path, required=True, help="the CSV to add to")
    add_device(parser)
    arguments = parser.parse_args(argv)
    check_range("--count", arguments.count, 2)
    check_range("--seed", arguments.seed, 0)
    for steps in arguments.steps:
        check_range("--steps", steps, 1, MOST_STEPS)
    if arguments.real and not arguments.data:
        raise UserError("--real: give --data, too, which they are compared with")
    device = choose_device(arguments.device)
    precision = usable_precision(device, arguments.precision)
    model = for_inference(load_face_unet(arguments.unet_pt), device, precision)
    noises = seeded_noises(arguments.count, arguments.size, seed=arguments.seed)
    sampler = Sampler(model, renewed=not arguments.keep_eps)
    measurements = Measurements(arguments.out, order=["weights", "precision", "use_clipped_model_output", "steps"])
    others = read_set(arguments.real, arguments.size) if arguments.real else None
    real = features(read_set(arguments.data, arguments.size), arguments.cache) if arguments.data else None
    training = read_set(arguments.training, arguments.size) if arguments.training else None
    given: dict[str, Any] = {
        "weights": weights_id(arguments.unet_pt),
        "precision": precision,
        "use_clipped_model_output": sampler.renewed,
        "data": Path(arguments.data).name if arguments.data else "none",
    }
    given |= {"size": arguments.size, "seed": arguments.seed, "faces": len(noises)}
    best: Tensor | None = None
    for steps in arguments.steps:
        row = {**given, "steps": steps}
        if measurements.has(row):
            continue
        if best is None:
            best = to_pictures(sampler.faces(noises[:COMPARED], MOST_STEPS))
        start = time.perf_counter()
        faces = sampler.faces(noises, steps)
        row["seconds"] = round(time.perf_counter() - start, 1)
        pictures = to_pictures(faces)
        arrays = pictures.permute(0, 2, 3, 1).numpy()
        if real is not None:
            row |= quality(arrays, real)
        if training is not None:
            row |= nearest_in_training(arrays, training)
        row["distance"] = rmse(pictures[:COMPARED], best)
        measurements.add({**row, "inversion": sampler.inversion_error(faces[:COMPARED], steps)})
    if others is not None and real is not None:
        row = {"weights": REAL, "data": given["data"], "size": arguments.size, "faces": len(others)}
        if not measurements.has(row):
            copies = {} if training is None else nearest_in_training(others, training)
            measurements.add({**given, **row, "steps": 0, **quality(others, real, arguments.cache), **copies})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
