"""Teach a network's head what a label changes: with it, classifier-free guidance needs no second pass.

python3 -m p1_cond_ddpm.distill runs/p1_guided.pt @p1_cond_ddpm/presets/distill.txt --data hw2_data/digits/mnistm \\
    --run-dir runs/p1_head

The head reads the features that the network's prediction for a label is made of, and learns v_c - v_u, the difference
to its prediction without label, on noised training images. The network and its guide stay as they are; an existing
head is replaced. The scale stays free, since the sampler multiplies the difference by it. Outside the head's interval
the sampler takes the second pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from common.checkpoint import load_network, load_weights, save_weights, sha256
from common.cli import UserError, command, some_path, wrote
from common.config import check_range, option, parse_options, to_json
from common.device import choose_device
from common.diffusion import stratified_timesteps
from common.digits import load_training_digits
from common.images import to_unit_range
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at
from common.training import TrainStep, check_batch_size, fingerprint, fit, training_parser
from p1_cond_ddpm.sampling import GRADED, check_interval, label_dropout
from p1_cond_ddpm.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DistillOptions:
    """Training batches."""

    batch_size: int = option(64, "images per step and process", smallest=1)
    interval: tuple[int, int] = option(GRADED.guidance_interval, "first and last timestep that the head is for")


def head_loss(
    head: nn.Module, network: UNet, x_0: Tensor, labels: Tensor, interval: tuple[int, int]
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """Squared error of the head's v_c - v_u for x_0 (B, C, H, W) in [-1, 1] and labels (B,) int64, in the interval's
    timesteps; and the mean square of v_c - v_u beside it, as "difference".

    Both are weighted by 1 - abar, which makes them errors of x_0. Random numbers come from torch's global generator.

    Source: Meng et al. 2023 (On distillation of guided diffusion models), section 3.1, with the difference as target in
    place of the guided prediction.
    """
    schedule = network.config.noise_schedule().to(x_0.device)
    t = interval[0] + stratified_timesteps(len(x_0), interval[1] - interval[0] + 1, x_0.device)
    x_t, null = schedule.add_noise(x_0, torch.randn_like(x_0), t), torch.full_like(labels, network.config.num_classes)
    with torch.no_grad(), torch.autocast(x_0.device.type, enabled=False):  # in bf16 their difference is coarse
        levels, embedding = network.features(x_t, t, labels)
        difference = network.from_features(levels) - network(x_t, t, null)
    _, sigma = schedule.signal_and_noise(t, x_0)
    predicted = network.image(head(levels, embedding)).float()
    error, size = ((sigma * what).square().mean() for what in (predicted - difference, difference))
    return error, {"difference": size}


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="folder with data/*.png and train.csv, or .npz of images and labels")
    parser.add_argument("weights", type=some_path, help="of the network, with or without guide")
    arguments, train, options = parse_options(parser, argv, DistillOptions, FitOptions)
    device = choose_device(arguments.device)
    if label_dropout(arguments.weights) in (0, 1):
        raise UserError(f"{arguments.weights}: trained with all labels or none; a head needs a network that knows both")
    network = load_network(arguments.weights, UNet, UNetConfig)
    check_interval("--interval", train.interval)
    check_range("--interval", train.interval, 0, network.config.num_timesteps - 1)

    digits = load_training_digits(arguments.data)
    check_batch_size(train.batch_size, len(digits))
    images, labels = digits.images.to(device), digits.labels.to(device)
    torch.manual_seed(options.seed)
    headed = UNet(replace(network.config, head_interval=train.interval))
    network.head = None
    headed.load_state_dict({**headed.state_dict(), **network.state_dict()})
    headed = headed.to(device).requires_grad_(False)
    assert headed.head is not None

    def loss(trained: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(digits), train.batch_size, seed=options.seed, step=step.batch).to(device)
        return head_loss(trained, headed, to_unit_range(images[rows]), labels[rows], train.interval)

    data = {"fingerprint": fingerprint(images, labels), "network": sha256(arguments.weights)}
    settings = {"train": to_json(train), "network": to_json(headed.config), "data": data}
    headed.head = fit(loss, headed.head.requires_grad_(True), options, arguments.run_dir, settings=settings)
    if is_main_process():
        how = load_weights(arguments.weights).metadata | {"head": {"train": to_json(train), "fit": to_json(options)}}
        save_weights(arguments.run_dir / "weights.pt", headed, headed.config, **how)
        wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
