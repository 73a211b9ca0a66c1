"""How much of the images' variety a sampler keeps, by spatial frequency.

python3 -m p1_cond_ddpm.spectrum hw2_data/digits/mnistm --sampler sde --num-steps 16 --spacing 0.5 --detail-steps 3
python3 -m p1_cond_ddpm.spectrum hw2_data/digits/mnistm --images runs/digits

The first needs no network. It samples Gaussian images of the data's mean and power spectrum, for which the best
denoiser is known, and prints their standard deviation over the data's in every band of frequencies: what is missing,
the sampler's few steps have lost. The second prints the same ratio for pictures, of any sampler and network.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from common.cli import UserError, command, some_path
from common.config import check_range, parse_options
from common.diffusion import run
from common.digits import load_training_digits
from common.fid import read_set
from common.images import to_unit_range
from p1_cond_ddpm.sampling import SampleOptions, sampler_steps, starting_noise
from p1_cond_ddpm.unet import UNetConfig

EDGES = (0.0, 0.02, 0.06, 0.12, 0.2, 0.3, 0.4, 0.71)  # of the bands, in cycles per pixel; the first is the mean colour


def power(images: Tensor, mean: Tensor) -> Tensor:
    """Variance of each coefficient of the orthonormal Fourier transform of (N, C, H, W) images: (C, H, W)."""
    return torch.fft.fft2(images - mean, norm="ortho").abs().square().mean(dim=0)


def by_band(powers: Tensor) -> Tensor:
    """Mean power in each band, over (C, H, W): (bands,)."""
    height, width = powers.shape[-2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    return torch.stack([powers[:, (frequency >= a) & (frequency < b)].mean() for a, b in zip(EDGES, EDGES[1:])])


class GaussianImages:
    """The best denoiser, as a v-network, of images whose Fourier coefficients are independent and Gaussian.

    It estimates x_0 by Wiener's filter.
    """

    guide = None

    def __init__(self, mean: Tensor, powers: Tensor):
        self.config = UNetConfig(image_channels=len(mean))
        self.mean, self.powers, self.schedule = mean, powers, self.config.noise_schedule()

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        signal, sigma = self.schedule.signal_and_noise(t, x_t)
        gain = signal * self.powers / (signal**2 * self.powers + sigma**2)
        x_0 = self.mean + torch.fft.ifft2(gain * torch.fft.fft2(x_t - signal * self.mean)).real
        return (signal * x_t - x_0) / sigma


@torch.inference_mode()
def kept_by_sampler(mean: Tensor, powers: Tensor, options: SampleOptions, count: int, seed: int = 0) -> Tensor:
    """Standard deviation in each band of `count` sampled Gaussian images over that of the Gaussian itself."""
    model = GaussianImages(mean, powers)
    x_T, randn_like = starting_noise(model, range(seed, seed + count), torch.device("cpu"))  # type: ignore[arg-type]
    labels = torch.full((count,), model.config.num_classes)
    sampled = run(sampler_steps(model, labels, x_T, randn_like, options)).x  # type: ignore[arg-type]
    return (by_band(power(sampled, mean)) / by_band(powers)).sqrt()


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=some_path, help="real images, as in p1_cond_ddpm.train")
    parser.add_argument("--images", help="pictures to measure instead, PATH or PATH:FIRST:END (see common.fid)")
    parser.add_argument("--count", type=int, default=500, help="Gaussian images to sample (default: 500)")
    arguments, options = parse_options(parser, argv, SampleOptions)
    check_range("--count", arguments.count, 2, 10_000)
    real = to_unit_range(load_training_digits(arguments.data).images)
    mean = real.mean(dim=0)
    powers = power(real, mean)
    if arguments.images:
        pictures = to_unit_range(torch.from_numpy(read_set(arguments.images, None)).permute(0, 3, 1, 2))
        if pictures.shape[1:] != mean.shape:
            sizes = [f"{height}×{width}" for _, height, width in (pictures.shape[1:], mean.shape)]
            raise UserError(f"{arguments.images}: pictures of {sizes[0]}; give {sizes[1]}, like the data")
        kept = (by_band(power(pictures, mean)) / by_band(powers)).sqrt()
    else:
        kept = kept_by_sampler(mean, powers, options, arguments.count)
    print("cycles per pixel  standard deviation, of the data's")
    for low, high, share in zip(EDGES, EDGES[1:], kept.tolist()):
        print(f"{low:.2f} to {high:.2f}      {share:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
