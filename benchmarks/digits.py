"""Problem 1's network and sampler against diffusers' UNet2DModel and DDIMScheduler, in one run.

python3 -m benchmarks.digits

Both networks have about the same number of parameters, sample with the same number of deterministic steps without
guidance, and train by one AdamW step of mean squared error; every time is the best of several. The last lines give the
speed as a ratio, and this network's sampling as a share of the machine's measured matrix-product peak.
"""

import argparse
import copy
from collections.abc import Callable, Sequence

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn

from benchmarks.measure import best_seconds, matmul_peak, multiply_adds
from common.cli import add_device, command
from common.device import autocast, choose_device, usable_precision
from common.diffusion import NoiseSchedule, ddim, ddim_timesteps, run
from p1_cond_ddpm.guidance import guided
from p1_cond_ddpm.train import v_loss
from p1_cond_ddpm.unet import UNet, UNetConfig
from p1_cond_ddpm.winograd import use_winograd

STEPS = 10


def diffusers_network() -> UNet2DModel:
    """diffusers' network at full resolution, its widths chosen for our number of parameters."""
    return UNet2DModel(
        sample_size=28,
        block_out_channels=(64, 80, 112),
        layers_per_block=2,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        num_class_embeds=11,
    )


def training_step(loss: Callable[[], Tensor], model: nn.Module, device: torch.device) -> Callable[[], None]:
    """One AdamW step, in bf16 where the device has it."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        with autocast(device, "bf16"):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts (default: 3)")
    add_device(parser)
    arguments = parser.parse_args(argv)
    device, batch, repeats = choose_device(arguments.device), arguments.batch_size, arguments.repeats
    torch.manual_seed(0)
    ours, theirs, schedule = UNet(UNetConfig()).to(device), diffusers_network().to(device), NoiseSchedule.cosine()
    sampler = use_winograd(copy.deepcopy(ours))
    x, labels = torch.randn(batch, 3, 28, 28, device=device), torch.arange(batch, device=device) % 10
    t = torch.randint(0, 1000, (batch,), device=device)
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(STEPS)

    @torch.inference_mode()
    def our_samples() -> None:
        denoise = guided(sampler, labels, scale=1.0, null_label=10)
        run(ddim(denoise, x, schedule, ddim_timesteps(1000, STEPS), prediction="v"))

    @torch.inference_mode()
    def their_samples() -> None:
        sample = x
        for now in scheduler.timesteps:
            sample = scheduler.step(theirs(sample, now, labels).sample, now, sample).prev_sample

    def their_loss() -> Tensor:
        noise = torch.randn_like(x)
        return (theirs(scheduler.add_noise(x, noise, t), t, labels).sample.float() - noise).square().mean()

    their_step = training_step(their_loss, theirs, device)
    our_step = training_step(lambda: v_loss(ours, schedule, x, labels, label_dropout=0.1, null_label=10), ours, device)
    sampling = best_seconds({"ours": our_samples, "diffusers": their_samples}, device, repeats=repeats)
    training = best_seconds({"ours": our_step, "diffusers": their_step}, device, repeats=repeats)
    for name, times, unit in (
        ("sampling, ms per image and step", sampling, batch * STEPS),
        ("training, ms per image", training, batch),
    ):
        values = ", ".join(f"{who} {1e3 * seconds / unit:.2f}" for who, seconds in times.items())
        print(f"{name}: {values}, ratio {times['diffusers'] / times['ours']:.2f}")
    work, peak = multiply_adds(ours, x[:1], t[:1], labels[:1]), matmul_peak(device)
    print(f"precision: sampling float32, training {usable_precision(device, 'bf16')}")
    parameters = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (ours, theirs)]
    print(f"parameters: ours {parameters[0]:.2f} M, diffusers {parameters[1]:.2f} M")
    print(f"multiply-adds of one forward pass: {work / 1e6:.0f} M; matrix-product peak {peak / 1e9:.0f} G/s")
    print(f"share of the peak in sampling: {work * batch * STEPS / sampling['ours'] / peak:.0%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
