"""Problem 1: class-conditional diffusion of digits."""

from p1_cond_ddpm.sampling import SampleOptions, load_denoiser, sample_digits

__all__ = ["SampleOptions", "load_denoiser", "sample_digits"]
