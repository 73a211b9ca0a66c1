"""Train a face network of problem 2's topology, of any widths, on square pictures whose side is a multiple of 32.

python3 -m p2_ddim.train @p2_ddim/presets/celeba32.txt --data FACES --run-dir runs/faces
python3 -m p2_ddim.sample NOISE_DIR OUT_DIR runs/faces/weights.pt

The preset celeba32 is the released network's recipe. --init starts from the weights of the same network, or of one
that lacks the finest level and was trained at half the size.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.checkpoint import save_weights, sha256
from common.cli import UserError, command, some_path, wrote
from common.config import option, parse_options, to_json
from common.device import autocast, choose_device
from common.diffusion import NoiseSchedule, stratified_timesteps
from common.images import read_pictures, to_unit_range
from common.layers import zero_init
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at
from common.training import TrainStep, check_batch_size, fingerprint, fit, training_parser
from p2_ddim.noise import seeded_noises
from p2_ddim.sampling import NUM_TIMESTEPS, sample_faces, to_pictures
from p2_ddim.unet import DOWN_BLOCKS, UP_BLOCKS, Attention, FaceUNet, FaceUNetConfig, ResidualBlock, load_face_unet

PREVIEW_SIDE, PREVIEW_STEPS = 128, 10  # pixels of as many faces as fit into a square, and the sampler's steps


@dataclass(frozen=True)
class TrainOptions:
    """Training pictures."""

    size: int = option(64, "side of the training pictures, a multiple of 32", smallest=32)
    batch_size: int = option(64, "images per step and process", smallest=1)
    held_out: int = option(0, "last pictures, in order of name, that training never sees", smallest=0)
    loss: str = option("min_snr", "squared error of the noise, or with Min-SNR's weights", choices=("noise", "min_snr"))


def start_as_identity(model: FaceUNet) -> FaceUNet:
    """Zero the last layer of every residual branch and of the network. Source: Ho et al. 2020, their released code."""
    branches = [
        m.conv2 if isinstance(m, ResidualBlock) else m.out
        for m in model.modules()
        if isinstance(m, (ResidualBlock, Attention))
    ]
    for layer in [*branches, model.out[2]]:
        zero_init(layer)
    return model


def start_level_as_identity(model: FaceUNet) -> None:
    """Let the finest level hand its halved input to the level below and that one's doubled output to the last layer.

    With `start_as_identity`: the strided convolution takes the mean of 2 x 2 pixels, the one after doubling and the
    skips of the way up, which get (x, skip), return x.
    """
    halving = model.path("down")[1 + DOWN_BLOCKS][0]
    doubled, *blocks = model.path("up")[-UP_BLOCKS - 1 :]
    for layer in (halving, doubled[1], *(block.resblocks.skip for block in blocks)):
        zero_init(layer)
        channels = range(len(layer.weight))
        if layer is halving:
            layer.weight.data[channels, channels, 1:, 1:] = 1 / 4
        else:
            middle = layer.kernel_size[0] // 2
            layer.weight.data[channels, channels, middle, middle] = 1


def start_from(model: FaceUNet, smaller: FaceUNet) -> None:
    """Copy the weights of the same network, or of one that lacks the finest level, into `model`.

    The first and last layers at the new resolution start from those at the old one, and the new level as the identity.

    Raises:
        ValueError: the networks' other levels differ.

    Source: Karras et al. 2018 (progressive growing), section 2.
    """
    new_levels = len(model.config.widths) - len(smaller.config.widths)
    level_modules = {"down": DOWN_BLOCKS + 1, "mid": 0, "up": 0}  # a level's modules shift the numbers of those below
    state = model.state_dict()
    for key, value in smaller.state_dict().items():
        path, number, rest = re.fullmatch(r"(down|mid|up)?(\d*)(.*)", key).groups()  # type: ignore[union-attr]
        if path and not (path == "down" and number == "1"):
            key = f"{path}{int(number) + new_levels * level_modules[path]}{rest}"
        if new_levels not in (0, 1) or key not in state or state[key].shape != value.shape:
            raise ValueError(f"{key} has no place in a network of widths {model.config.widths}")
        state[key] = value
    model.load_state_dict(state)
    if new_levels == 1:
        start_level_as_identity(model)


def eps_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    *,
    loss: str = "min_snr",
    largest_snr: float = 5.0,
) -> Tensor:
    """Mean squared error of the predicted noise at random timesteps, for x_0 (B, 3, H, W) in [-1, 1].

    `loss` is "noise" or "min_snr". With the latter, where the signal-to-noise ratio is above largest_snr, the weight is
    largest_snr over that ratio: fine grain is hard to predict, and its large errors would otherwise rule the gradient.
    Random numbers come from torch's global generator.

    Sources: Ho et al. 2020, equation 14; Hang et al. 2023 (Min-SNR weighting), section 3.4.
    """
    t = stratified_timesteps(len(x_0), len(schedule), x_0.device)
    noise = torch.randn_like(x_0)
    signal, sigma = schedule.signal_and_noise(t, x_0)
    errors = (model(schedule.add_noise(x_0, noise, t), t).float() - noise).square()
    if loss == "min_snr":
        errors = errors * (largest_snr * (sigma / signal).square()).clamp(max=1)
    return errors.mean()


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data=".npz of images, or a folder of pictures")
    parser.add_argument("--init", type=some_path, help="weight file to start from")
    arguments, config, train, options = parse_options(parser, argv, FaceUNetConfig, TrainOptions, FitOptions)
    if any(width % 32 for width in config.widths):
        raise UserError(f"--widths {config.widths}: give multiples of 32")
    if train.size % max(32, 2 ** (len(config.widths) - 1)):
        raise UserError(
            f"--size {train.size}: give a multiple of 32, and one that halves between {len(config.widths)} levels"
        )
    if config.time_channels % 2:
        raise UserError(
            f"--time-channels {config.time_channels}: give an even number, half for sines, half for cosines"
        )
    device = choose_device(arguments.device)
    images = read_pictures(arguments.data, train.size)
    if train.held_out >= len(images):
        raise UserError(f"--held-out {train.held_out}: the data has {len(images)} pictures; leave some to train on")
    images = images[: len(images) - train.held_out].to(device)
    check_batch_size(train.batch_size, len(images))
    torch.manual_seed(options.seed)
    model, schedule = start_as_identity(FaceUNet(config)), NoiseSchedule.linear(NUM_TIMESTEPS).to(device)
    if arguments.init:
        try:
            start_from(model, load_face_unet(arguments.init))
        except ValueError as error:
            raise UserError(
                f"--init {arguments.init}: {error}; give the same options, or one finest level more"
            ) from None

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(images), train.batch_size, seed=options.seed, step=step.batch).to(device)
        x_0 = to_unit_range(images[rows])
        mirrored = (torch.rand(len(x_0), device=device) < 0.5)[:, None, None, None]
        return eps_loss(network, schedule, torch.where(mirrored, x_0.flip(3), x_0), loss=train.loss), {}

    def preview(ema: nn.Module) -> Tensor:
        count = max(1, (PREVIEW_SIDE // train.size) ** 2)
        with torch.inference_mode(), autocast(device, options.precision):
            noises = seeded_noises(count, train.size, seed=0).to(device)
            return to_pictures(sample_faces(ema, noises, num_steps=PREVIEW_STEPS))

    data = {"fingerprint": fingerprint(images), "init": sha256(arguments.init) if arguments.init else None}
    settings = {"train": to_json(train), "network": to_json(config), "data": data}
    ema = fit(loss, model.to(device), options, arguments.run_dir, settings=settings, preview=preview)
    if is_main_process():
        save_weights(arguments.run_dir / "weights.pt", ema, config, train=to_json(train), fit=to_json(options))
        wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
