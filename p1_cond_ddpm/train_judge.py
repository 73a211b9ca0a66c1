"""Train our own judge, for those who don't have the course's Classifier.pth.

python3 -m p1_cond_ddpm.train_judge --data hw2_data/digits/mnistm --run-dir runs/judge
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoint import save_weights
from common.cli import command, wrote
from common.config import parse_options, to_json
from common.device import choose_device
from common.digits import load_digits
from common.images import to_unit_range
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at
from common.training import TrainStep, check_batch_size, fingerprint, fit, training_parser
from p1_cond_ddpm.judge import LeNet

BATCH_SIZE = 128


def random_shift(images: Tensor, *, largest: int = 2) -> Tensor:
    """Move every (B, C, H, W) image by up to `largest` pixels each way; edges repeat."""
    padded = F.pad(images.float(), [largest] * 4, mode="replicate")
    batch, _, height, width = images.shape
    top, left = torch.randint(0, 2 * largest + 1, (2, batch, 1, 1, 1)).to(images.device)
    rows = (top + torch.arange(height, device=images.device)[:, None]).expand(-1, padded.shape[1], -1, padded.shape[3])
    columns = (left + torch.arange(width, device=images.device)).expand(-1, padded.shape[1], height, -1)
    return padded.gather(2, rows).gather(3, columns)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="folder with data/*.png, train.csv and val.csv")
    arguments, options = parse_options(parser, argv, FitOptions)
    device = choose_device(arguments.device)

    digits = load_digits(arguments.data, "train.csv")
    check_batch_size(BATCH_SIZE, len(digits))
    images, labels = digits.images.to(device), digits.labels.to(device)

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(digits), BATCH_SIZE, seed=options.seed, step=step.batch).to(device)
        logits = network(to_unit_range(random_shift(images[rows])))
        return F.cross_entropy(logits.float(), labels[rows]), {}

    torch.manual_seed(options.seed)
    ema = fit(
        loss,
        LeNet().to(device),
        options,
        arguments.run_dir,
        settings={"data": {"fingerprint": fingerprint(images, labels)}},
    )
    if not is_main_process():
        return 0
    held_out = load_digits(arguments.data, "val.csv")
    with torch.inference_mode():
        predicted = ema(to_unit_range(held_out.images.to(device))).argmax(dim=1).cpu()
    accuracy = (predicted == held_out.labels).float().mean().item()
    print(f"val accuracy {accuracy:.4f}")
    save_weights(arguments.run_dir / "weights.pt", ema, fit=to_json(options), val_accuracy=accuracy)
    wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
