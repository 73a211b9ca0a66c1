"""DDIM samples of a face network, their inversion, mixes of their noises, and pictures, from Python.

from p2_ddim import load_face_unet, sample_faces, to_pictures
faces = to_pictures(sample_faces(load_face_unet("UNet.pt"), torch.randn(4, 3, 256, 256)))  # (4, 3, 256, 256) uint8
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.device import DTYPES, full_float32, usable_precision
from common.diffusion import Denoiser, NoiseSchedule, ddim, ddim_timesteps, run
from common.rng import per_sample_noise, step_seed
from p2_ddim.unet import FaceUNet
from p2_ddim.winograd import use_winograd

NUM_TIMESTEPS, NUM_STEPS, FIRST_TIMESTEP = 1000, 50, 1


def for_inference(model: FaceUNet, device: torch.device, precision: str = "float32") -> FaceUNet:
    """The network itself, on a device, as it is fastest there; in bf16 or fp16 where asked for and supported."""
    full_float32()
    model = model.to(device).to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)
    usable = usable_precision(device, precision)
    if usable != "float32":
        for name, module in model.named_children():
            if name != "time":  # frequencies times timesteps up to 999 need more than bf16's 8 bits
                module.to(DTYPES[usable])
    if device.type == "cpu":
        use_winograd(model)
    return model


def sample_faces(
    denoise: Denoiser,
    x_T: Tensor,
    *,
    num_steps: int = NUM_STEPS,
    eta: float = 0.0,
    use_clipped_model_output: bool = True,
    seeds: Sequence[int] | None = None,
    on_step: Callable[[int], object] = lambda images: None,
) -> Tensor:
    """DDIM with the homework's timesteps: x_T (B, 3, H, W) -> x_0 of the same shape and dtype, not clipped.

    Timesteps 1, 21, ..., 981 of a linear schedule, x_0 clamped to [-1, 1] at every step, and after t = 1 a last level
    of abar_0, not 1. use_clipped_model_output=False is the course's convention, that of hw2_2.sh (see `ddim`). With
    eta > 0, row i's noise is drawn from seeds[i] (default i). `on_step` gets B after every step.
    """
    schedule = NoiseSchedule.linear(NUM_TIMESTEPS)
    steps = ddim(
        denoise,
        x_T,
        schedule,
        ddim_timesteps(NUM_TIMESTEPS, num_steps, offset=FIRST_TIMESTEP),
        eta=eta,
        clip_x_0=True,
        use_clipped_model_output=use_clipped_model_output,
        final_alpha_cumprod=schedule.alphas_cumprod[0].item(),
        randn_like=per_sample_noise(range(len(x_T)) if seeds is None else seeds),
    )
    return run(steps, on_step).x


def invert_faces(denoise: Denoiser, x_0: Tensor, *, num_steps: int = NUM_STEPS) -> Tensor:
    """The noises (B, 3, H, W) at the last timestep from which `sample_faces` comes back to x_0, roughly.

    Source: Song et al. 2021 (DDIM), section 4.3 and equation 14, run from image to noise.
    """
    schedule = NoiseSchedule.linear(NUM_TIMESTEPS)
    *timesteps, end = reversed(ddim_timesteps(NUM_TIMESTEPS, num_steps, offset=FIRST_TIMESTEP))
    return run(ddim(denoise, x_0, schedule, timesteps, final_alpha_cumprod=schedule.alphas_cumprod[end].item())).x


def lerp(z_0: Tensor, z_1: Tensor, w: float) -> Tensor:
    """(1 - w) z_0 + w z_1, any shape. Of two independent Gaussians the norm shrinks to 0.71 at w = 0.5."""
    return (1 - w) * z_0 + w * z_1


def slerp(z_0: Tensor, z_1: Tensor, w: float) -> Tensor:
    """Spherical interpolation of two tensors taken as vectors: z_0 at w = 0, z_1 at w = 1; keeps a common norm.

    Parallel vectors, which span no arc, are interpolated linearly; so are opposite ones, whose arc is not unique.

    Source: Shoemake 1985, as in Song et al. 2021 (DDIM), appendix D.5.
    """
    a, b = z_0.double(), z_1.double()
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    if not angle.sin() > 1e-6:
        return lerp(z_0, z_1, w)
    return ((torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / angle.sin()).to(z_0)


def to_picture(x_0: Tensor) -> Tensor:
    """One (3, H, W) float image -> uint8, its smallest value to 0 and its largest to 255, all channels together."""
    low, high = x_0.min(), x_0.max()
    return ((x_0 - low) / (high - low).clamp(min=1e-12) * 255 + 0.5).to(torch.uint8)


def to_pictures(x_0: Tensor) -> Tensor:
    """(N, 3, H, W) float images -> uint8 on the CPU, each as `to_picture` makes it."""
    return torch.stack([to_picture(image) for image in x_0.cpu()])


def rmse(a: Tensor, b: Tensor) -> float:
    """Root-mean-square difference of uint8 pictures, in grey levels."""
    return (a.float() - b.float()).square().mean().sqrt().item()


def step_noise_seeds(count: int, *, seed: int = 0) -> list[int]:
    """For eta > 0: a seed per image, of other numbers than `seeded_noises` of the same seed."""
    return [step_seed(seed, i, 1) for i in range(count)]
