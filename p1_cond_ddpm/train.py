"""Train problem 1's network on one digit data set, with a preview of 8 x 8 digits whenever the state is saved.

python3 -m p1_cond_ddpm.train @p1_cond_ddpm/presets/mnistm.txt --data hw2_data/digits/mnistm --run-dir runs/p1
python3 -m p1_cond_ddpm.train @p1_cond_ddpm/presets/mnist.txt --data mnist.npz --run-dir runs/mnist

A preset is a file of options, one a line: mnistm and mnist are the released networks' recipes, guide after one of them
is that of its guide (join.py), distill that of distill.py, clipped after mnist goes on with a loss that makes black
exactly black, mnist_public has the settings of the best public MNIST report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.checkpoint import load_network, load_weights, save_weights, sha256
from common.cli import UserError, command, some_path, wrote
from common.config import option, parse_options, to_json
from common.device import choose_device
from common.diffusion import NoiseSchedule, stratified_timesteps
from common.digits import NULL_LABEL, SIZE, load_training_digits
from common.images import to_unit_range
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at
from common.training import TrainStep, check_batch_size, fingerprint, fit, training_parser
from p1_cond_ddpm.sampling import GRADED, SampleOptions, sample_digits
from p1_cond_ddpm.unet import UNet, UNetConfig, without_guidance

PREVIEW, PREVIEW_STEPS = 64, 4  # digits, and the sampler's steps


@dataclass(frozen=True)
class TrainOptions:
    """Training batches."""

    batch_size: int = option(128, "images per step and process", smallest=1)
    label_dropout: float = option(0.1, "share of images whose label is hidden, for guidance", smallest=0, largest=1)
    loss: str = option(
        "v",
        "squared error of v, of the noise, of x_0 with Min-SNR's weights, or of v with x_0's estimate clipped",
        choices=("v", "noise", "min_snr", "clipped"),
    )


def check_network(config: UNetConfig) -> None:
    """Raise UserError where a network of this config can't learn digits."""
    widths, factor = config.widths, config.patch_size * 2 ** (len(config.widths) - 1)
    wrong = {
        f"--image-channels {config.image_channels}: digits are RGB, grey ones too; give 3": config.image_channels != 3,
        f"--num-classes {config.num_classes}: digits have {NULL_LABEL}": config.num_classes != NULL_LABEL,
        f"--widths {widths} --heads {config.heads}: give multiples of 16, the last one of the heads": any(
            w % 16 for w in widths
        )
        or widths[-1] % config.heads,
        f"--patch-size {config.patch_size} with {len(widths)} widths: {SIZE} pixels don't divide by {factor}": SIZE
        % factor,
        f"--guide-widths {config.guide_widths}: train the guide as a network of its own, then join the two": bool(
            config.guide_widths
        ),
        "--head-interval: train without a head; p1_cond_ddpm.distill adds it afterwards": bool(config.head_interval),
    }
    for message, holds in wrong.items():
        if holds:
            raise UserError(message)


def v_loss(
    network: nn.Module,
    schedule: NoiseSchedule,
    x_0: Tensor,
    labels: Tensor,
    *,
    label_dropout: float,
    null_label: int,
    loss: str = "v",
    largest_snr: float = 5.0,
) -> Tensor:
    """Weighted mean squared error of v at random timesteps, for x_0 (B, C, H, W) in [-1, 1] and labels (B,) int64.

    At one x_t the noise's squared error is abar times that of v, and x_0's is 1 - abar times that of v. `loss` chooses
    "v", "noise", or "min_snr": x_0's, weighted by the signal-to-noise ratio abar / (1 - abar), at most largest_snr; or
    "clipped": that of v once its estimate of x_0 is clipped to [-1, 1], as samplers do. An estimate beyond black then
    costs nothing, so the network can make black areas exactly black.
    Each label becomes null_label with probability label_dropout, which trains the unconditional network too (Ho &
    Salimans 2022). Random numbers come from torch's global generator.

    Sources: Salimans & Ho 2022, section 4; Hang et al. 2023 (Min-SNR weighting), section 3.4.
    """
    t = stratified_timesteps(len(x_0), len(schedule), x_0.device)
    noise = torch.randn_like(x_0)
    hidden = torch.rand(len(x_0), device=x_0.device) < label_dropout
    x_t = schedule.add_noise(x_0, noise, t)
    v = network(x_t, t, labels.masked_fill(hidden, null_label)).float()
    signal, sigma = schedule.signal_and_noise(t, x_0)
    if loss == "clipped":
        return ((((signal * x_t - sigma * v).clamp(-1, 1) - x_0) / sigma).square()).mean()
    errors = (v - schedule.velocity(x_0, noise, t)).square()
    weights = {
        "v": 1.0,
        "noise": signal.square(),
        "min_snr": torch.minimum(signal.square(), largest_snr * sigma.square()),
    }
    return (weights[loss] * errors).mean()


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(
        __doc__, data="folder with data/*.png and train.csv, or .npz of images and labels, or folder of pictures"
    )
    parser.add_argument("--init", type=some_path, help="weight file to start from")
    arguments, config, train, options = parse_options(parser, argv, UNetConfig, TrainOptions, FitOptions)
    check_network(config)
    device = choose_device(arguments.device)

    digits = load_training_digits(arguments.data)
    check_batch_size(train.batch_size, len(digits))
    images, labels = digits.images.to(device), digits.labels.to(device)
    labelled = bool((labels != NULL_LABEL).any())
    torch.manual_seed(options.seed)
    model = UNet(config)
    if arguments.init:
        model = without_guidance(load_network(arguments.init, UNet, UNetConfig)).train().requires_grad_(True)
        if model.config != config:
            raise UserError(
                f"{arguments.init}: a network of other options ({to_json(model.config)}); give the same ones"
            )
    schedule = config.noise_schedule().to(device)

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(digits), train.batch_size, seed=options.seed, step=step.batch).to(device)
        x_0, digit = to_unit_range(images[rows]), labels[rows]
        how = {"label_dropout": train.label_dropout, "null_label": config.num_classes, "loss": train.loss}
        return v_loss(network, schedule, x_0, digit, **how), {}

    def preview(ema: nn.Module) -> Tensor:
        guidance_scale = GRADED.guidance_scale if labelled and 0 < train.label_dropout < 1 else 1.0
        num_steps = min(PREVIEW_STEPS, config.num_timesteps)
        how = SampleOptions(
            "dpm",
            num_steps,
            spacing=1.0,
            early_steps=0,
            detail_steps=0,
            guidance_scale=guidance_scale,
            guidance_every=1,
            precision=options.precision,
        )
        shown = torch.arange(PREVIEW) % 10 if labelled and train.label_dropout < 1 else [NULL_LABEL] * PREVIEW
        return sample_digits(ema, shown, range(PREVIEW), how)

    data = {"fingerprint": fingerprint(images, labels), "init": sha256(arguments.init) if arguments.init else None}
    settings = {"train": to_json(train), "network": to_json(config), "data": data}
    ema = fit(loss, model.to(device), options, arguments.run_dir, settings=settings, preview=preview)
    if is_main_process():
        how = {"train": to_json(train), "fit": to_json(options), "labelled": labelled}
        if arguments.init:
            how["init"] = load_weights(arguments.init).metadata
        save_weights(arguments.run_dir / "weights.pt", ema, config, **how)
        wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
