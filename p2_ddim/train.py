"""Train a face network of problem 2's topology, of any widths, on square pictures whose side is a multiple of 32.

python3 -m p2_ddim.train @p2_ddim/presets/celeba32.txt --data FACES --run-dir runs/faces
python3 -m p2_ddim.sample NOISE_DIR OUT_DIR runs/faces/weights.pt
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.checkpoint import save_weights
from common.cli import UserError, choose_device, command
from common.config import option, parse_options, to_json
from common.diffusion import NoiseSchedule, stratified_timesteps
from common.images import read_pictures, to_unit_range
from common.rng import batch_at
from common.training import FitOptions, TrainStep, fingerprint, fit, is_main_process, training_parser
from p2_ddim.sample import NUM_TIMESTEPS
from p2_ddim.unet import Attention, FaceUNet, FaceUNetConfig, ResidualBlock


@dataclass(frozen=True)
class TrainOptions:
    size: int = option(64, "side of the training pictures, a multiple of 32", smallest=32)
    batch_size: int = option(64, "images per step and process", smallest=1)


def start_as_identity(model: FaceUNet) -> FaceUNet:
    """Zero the last layer of every residual branch and of the network. Source: Ho et al. 2020, their released code."""
    branches = [m.conv2 if isinstance(m, ResidualBlock) else m.out for m in model.modules() if isinstance(m, (ResidualBlock, Attention))]
    for layer in [*branches, model.out[2]]:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return model


def eps_loss(model: Callable[[Tensor, Tensor], Tensor], schedule: NoiseSchedule, x_0: Tensor, *, largest_snr: float = 5.0) -> Tensor:
    """Mean squared error of the predicted noise at random timesteps, for x_0 (B, 3, H, W) in [-1, 1].

    Where the signal-to-noise ratio is above largest_snr, the weight is largest_snr over that ratio: fine grain is hard to
    predict, and its large errors would otherwise rule the gradient. Random numbers come from torch's global generator.

    Sources: Ho et al. 2020, equation 14; Hang et al. 2023 (Min-SNR weighting), section 3.4.
    """
    t = stratified_timesteps(len(x_0), len(schedule)).to(x_0.device)
    noise = torch.randn(x_0.shape).to(x_0.device)
    signal, sigma = schedule.signal_and_noise(t, x_0)
    errors = (model(schedule.add_noise(x_0, noise, t), t).float() - noise).square()
    return (errors * (largest_snr * (sigma / signal).square()).clamp(max=1)).mean()


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data=".npz of images, or a folder of pictures")
    arguments, config, train, options = parse_options(parser, argv, FaceUNetConfig, TrainOptions, FitOptions)
    if any(width % 32 for width in config.widths):
        raise UserError(f"--widths {config.widths}: give multiples of 32")
    if train.size % max(32, 2 ** (len(config.widths) - 1)):
        raise UserError(f"--size {train.size}: give a multiple of 32, and one that halves between {len(config.widths)} levels")
    if config.time_channels % 2:
        raise UserError(f"--time-channels {config.time_channels}: give an even number, half for sines, half for cosines")
    device = choose_device(arguments.device)
    images = read_pictures(arguments.data, train.size).to(device)
    torch.manual_seed(options.seed)
    model, schedule = start_as_identity(FaceUNet(config)).to(device), NoiseSchedule.linear(NUM_TIMESTEPS)

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(images), train.batch_size, seed=options.seed, step=step.batch).to(device)
        x_0 = to_unit_range(images[rows])
        mirrored = (torch.rand(len(x_0)) < 0.5).to(device)[:, None, None, None]
        return eps_loss(network, schedule, torch.where(mirrored, x_0.flip(3), x_0)), {}

    settings = {"train": to_json(train), "network": to_json(config), "data": {"fingerprint": fingerprint(images)}}
    ema = fit(loss, model, options, arguments.run_dir, settings=settings)
    if is_main_process():
        save_weights(arguments.run_dir / "weights.pt", ema, config, train=to_json(train), fit=to_json(options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
