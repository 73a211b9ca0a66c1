"""Train the network that finds the stroke in an MNIST-M image, from MNIST-M and MNIST.

python3 -m p1_cond_ddpm.train_strokes @p1_cond_ddpm/presets/strokes.txt --data hw2_data/digits/mnistm \\
    --mnist runs/mnist.npz --run-dir runs/strokes

MNIST-M is |patch - 255 [digit > 0]|, so the right digit of MNIST, taken off, leaves a smooth photograph. That pairs
every image with its stroke; no file names are needed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from common.checkpoint import save_weights
from common.cli import command, some_path, wrote
from common.config import parse_options, to_json
from common.device import choose_device
from common.digits import load_digits, load_training_digits
from common.images import to_unit_range
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at
from common.training import TrainStep, check_batch_size, fingerprint, fit, training_parser
from p1_cond_ddpm.strokes import StrokeNet, stroke_maps

PAIRED, HELD_OUT = 4000, 500  # images of train and of val
BATCH_SIZE = 64


def borders(masks: Tensor) -> Tensor:
    """Which neighbours differ in (N, 28, 28) bool masks: (N, 1512) float, vertical neighbours first."""
    vertical, horizontal = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
    return torch.cat([vertical.flatten(1), horizontal.flatten(1)], dim=1).float()


def roughening(images: Tensor) -> Tensor:
    """By how much neighbours in (N, 3, 28, 28) uint8 images differ more where one of two is inverted: (N, 1512)."""
    x = images.float()

    def more(a: Tensor, b: Tensor) -> Tensor:
        return ((255 - a - b).abs() - (a - b).abs()).sum(dim=1).flatten(1)

    return torch.cat([more(x[:, :, 1:], x[:, :, :-1]), more(x[..., 1:], x[..., :-1])], dim=1)


def paired_strokes(images: Tensor, strokes: Tensor, *, chunk: int = 1000) -> tuple[Tensor, Tensor]:
    """The stroke of every image (N, 3, 28, 28) uint8 among (M, 28, 28) bool ones, and which images have one for sure.

    The total variation of an image without its stroke is a sum over the stroke's borders: one matrix product scores all
    pairs. An image is sure where the best stroke takes off twice as much as the second.
    """
    edges = borders(strokes)
    best, sure = [], []
    for some in tqdm(images.split(chunk), unit="chunk", desc="pairing"):
        smoother, row = (-(roughening(some) @ edges.T)).topk(2, dim=1)
        best.append(strokes[row[:, 0]])
        sure.append(smoother[:, 0] > 2 * smoother[:, 1].clamp(min=0))
    return torch.cat(best), torch.cat(sure)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="MNIST-M's folder, with data/*.png, train.csv and val.csv")
    parser.add_argument("--mnist", type=some_path, required=True, help="MNIST's training images (homework.mnist)")
    arguments, options = parse_options(parser, argv, FitOptions)
    device = choose_device(arguments.device)
    all_strokes = load_training_digits(arguments.mnist).images[:, 0] > 0
    training, held_out = (
        load_digits(arguments.data, f"{split}.csv").images[:count]
        for split, count in (("train", PAIRED), ("val", HELD_OUT))
    )
    strokes, sure = paired_strokes(training, all_strokes)
    check_batch_size(BATCH_SIZE, int(sure.sum()))
    images, targets = training[sure].to(device), strokes[sure].to(device)

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(images), BATCH_SIZE, seed=options.seed, step=step.batch).to(device)
        logits = network(to_unit_range(images[rows])).float()
        return F.binary_cross_entropy_with_logits(logits, targets[rows].float()), {}

    torch.manual_seed(options.seed)
    data = {"fingerprint": fingerprint(images, targets)}
    ema = fit(loss, StrokeNet().to(device), options, arguments.run_dir, settings={"data": data})
    if not is_main_process():
        return 0
    truth, known = paired_strokes(held_out, all_strokes)
    found = stroke_maps(ema.cpu(), held_out[known]) > 0.5
    iou = ((found & truth[known]).sum() / (found | truth[known]).sum()).item()
    print(f"{int(known.sum())} of {len(held_out)} val images: intersection over union {iou:.4f}")
    save_weights(arguments.run_dir / "weights.pt", ema, fit=to_json(options), val_iou=iou)
    wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
