"""Teach a network with a guide to predict both guidances itself, so that guided sampling takes one pass a step.

python3 -m p1_cond_ddpm.distill runs/p1_guided.pt @p1_cond_ddpm/presets/distill.txt --data hw2_data/digits/mnistm \\
    --run-dir runs/p1_distilled

The network (join.py) gets a head that predicts what a label changes in its v and what the guide lacks of it. Network
and head are trained together, on the same noised images: the network as before, the head on these differences as the
given weights have them. Scales and intervals stay free, since the sampler combines the three outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from common.checkpoint import load_network, load_weights, save_weights, sha256
from common.cli import UserError, command, some_path, wrote
from common.config import option, parse_options, to_json
from common.device import choose_device
from common.diffusion import NoiseSchedule, stratified_timesteps
from common.digits import load_training_digits
from common.images import to_unit_range
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at
from common.training import TrainStep, check_batch_size, fingerprint, fit, training_parser
from p1_cond_ddpm.sampling import GRADED, sample_digits
from p1_cond_ddpm.train import PREVIEW
from p1_cond_ddpm.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DistillOptions:
    """Training batches and loss."""

    batch_size: int = option(96, "images per step and process", smallest=1)
    label_dropout: float = option(
        0.1, "share of images whose label is hidden, as in the network's training", smallest=0, largest=1
    )
    head_weight: float = option(8.0, "of the head's squared errors, which are small, beside that of v", smallest=0)


def distillation_loss(
    network: nn.Module,
    teacher: UNet,
    schedule: NoiseSchedule,
    x_0: Tensor,
    labels: Tensor,
    *,
    label_dropout: float,
    head_weight: float,
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """Squared error of v, and of both differences to those of the teacher, for x_0 (B, C, H, W) in [-1, 1] and labels
    (B,) int64; and the parts.

    Differences of v are weighted by 1 - abar, which makes their errors those of x_0: at little noise, where guidance is
    off, the networks differ in textures alone. Labels are hidden as in `train.v_loss`; what a hidden label changes is
    0. Random numbers come from torch's global generator.

    Source: Meng et al. 2023 (On distillation of guided diffusion models), section 3.1, with both differences as targets
    in place of the guided prediction.
    """
    t = stratified_timesteps(len(x_0), len(schedule), x_0.device)
    noise, null = torch.randn_like(x_0), torch.full_like(labels, teacher.config.num_classes)
    shown = torch.where(torch.rand(len(x_0), device=x_0.device) < label_dropout, null, labels)
    x_t = schedule.add_noise(x_0, noise, t)
    assert teacher.guide is not None
    with torch.no_grad():
        v, without_label = teacher(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([shown, null])).chunk(2)
        differences = torch.cat([v - without_label, v - teacher.guide(x_t, t, shown)], dim=1)
    target = torch.cat([schedule.velocity(x_0, noise, t), differences], dim=1)
    errors = (network(x_t, t, shown, guidance=True).float() - target).square()
    _, sigma = schedule.signal_and_noise(t, x_0)
    v, by_label, by_guide = errors.chunk(3, dim=1)
    v_error, label_error, guide_error = v.mean(), (sigma.square() * by_label).mean(), (sigma.square() * by_guide).mean()
    parts = {"v_error": v_error, "label_error": label_error, "guide_error": guide_error}
    return v_error + head_weight * (label_error + guide_error), {k: v.detach() for k, v in parts.items()}


def with_head(teacher: UNet) -> UNet:
    """A network with the teacher's weights and a new head, without its guide."""
    student = UNet(replace(teacher.config, guide_widths=(), guidance_head=True))
    student.load_state_dict(teacher.state_dict(), strict=False)  # which has a guide in place of the head
    return student


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="folder with data/*.png and train.csv, or .npz of images and labels")
    parser.add_argument("weights", type=some_path, help="of a network with a guide")
    arguments, train, options = parse_options(parser, argv, DistillOptions, FitOptions)
    device = choose_device(arguments.device)
    teacher = load_network(arguments.weights, UNet, UNetConfig).to(device)
    if teacher.guide is None:
        raise UserError(f"{arguments.weights}: has no guide; p1_cond_ddpm.join adds one")

    digits = load_training_digits(arguments.data)
    check_batch_size(train.batch_size, len(digits))
    images, labels = digits.images.to(device), digits.labels.to(device)
    torch.manual_seed(options.seed)
    student = with_head(teacher)
    schedule = student.config.noise_schedule().to(device)

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(digits), train.batch_size, seed=options.seed, step=step.batch).to(device)
        x_0 = to_unit_range(images[rows])
        how = {"label_dropout": train.label_dropout, "head_weight": train.head_weight}
        return distillation_loss(network, teacher, schedule, x_0, labels[rows], **how)

    def preview(ema: nn.Module) -> Tensor:
        return sample_digits(ema, torch.arange(PREVIEW) % 10, range(PREVIEW), GRADED)

    data = {"fingerprint": fingerprint(images, labels), "teacher": sha256(arguments.weights)}
    settings = {"train": to_json(train), "network": to_json(student.config), "data": data}
    ema = fit(loss, student.to(device), options, arguments.run_dir, settings=settings, preview=preview)
    if is_main_process():
        how = load_weights(arguments.weights).metadata | {
            "distilled": {"train": to_json(train), "fit": to_json(options)}
        }
        save_weights(arguments.run_dir / "weights.pt", ema, student.config, **how)
        wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
