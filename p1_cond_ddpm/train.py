"""Train problem 1's network on one digit data set.

python3 -m p1_cond_ddpm.train --data hw2_data/digits/mnistm --run runs/p1
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.checkpoint import load_network, save_weights
from common.cli import UserError, choose_device, command
from common.config import option, parse_options, to_json
from common.diffusion import NoiseSchedule
from common.digits import load_digits
from common.images import to_unit_range
from common.rng import batch_at
from common.training import FitOptions, TrainStep, fit, is_main_process, training_parser
from p1_cond_ddpm.loss import v_loss
from p1_cond_ddpm.unet import UNet, UNetConfig


@dataclass(frozen=True)
class TrainOptions:
    batch_size: int = option(128, "images per step and process", smallest=1)
    label_dropout: float = option(0.1, "share of images whose label is hidden, for guidance", smallest=0, largest=1)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="folder with data/*.png and train.csv")
    parser.add_argument("--init", type=Path, help="weight file to start from")
    arguments, config, train, options = parse_options(parser, argv, UNetConfig, TrainOptions, FitOptions)
    device = choose_device(arguments.device)

    digits = load_digits(arguments.data, "train.csv")
    images, labels = digits.images.to(device), digits.labels.to(device)
    torch.manual_seed(options.seed)
    model = UNet(config)
    if arguments.init:
        model = load_network(arguments.init, UNet, UNetConfig).train().requires_grad_(True)
        if model.config != config:
            raise UserError(f"{arguments.init}: a network of other options ({to_json(model.config)}); give the same ones")
    schedule = NoiseSchedule.cosine()

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(digits), train.batch_size, seed=options.seed, step=step.batch).to(device)
        x_0 = to_unit_range(images[rows])
        return v_loss(network, schedule, x_0, labels[rows], label_dropout=train.label_dropout, null_label=config.num_classes), {}

    settings = {"train": to_json(train), "network": to_json(config)}
    ema = fit(loss, model.to(device), options, arguments.run, settings=settings)
    if is_main_process():
        save_weights(arguments.run / "weights.pt", ema, config, train=to_json(train), fit=to_json(options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
