"""The samplers against diffusers, ancestral sampling written out, and exact denoisers."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from common.diffusion import (
    NoiseSchedule,
    ddim,
    ddim_timesteps,
    dpm_solver_pp_2m,
    run,
    trailing_timesteps,
)
from common.rng import generator, per_sample_noise


def dummy_sample_and_model():
    """The deterministic sample and model of diffusers' own scheduler tests."""
    sample = (torch.arange(768) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
    return sample, lambda x, t: x * (t / (t + 1))[:, None, None, None]


def two_point_denoiser(schedule: NoiseSchedule, point: torch.Tensor):
    """The exact denoiser of data that is +point or -point with equal probability."""

    def denoise(x, t):
        abar = schedule.alphas_cumprod[t[0]].to(x)
        score = (x * point).flatten(1).sum(1) * abar.sqrt() / (1 - abar)
        x_0 = torch.tanh(score)[:, None, None, None] * point
        return (x - abar.sqrt() * x_0) / (1 - abar).sqrt()

    return denoise


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("clip, recompute", [(False, False), (True, False), (True, True)])
def test_ddim_agrees_with_diffusers(eta, clip, recompute):
    schedule = NoiseSchedule.linear()
    oracle = DDIMScheduler(
        beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", clip_sample=clip, set_alpha_to_one=False, steps_offset=1
    )
    oracle.set_timesteps(50)
    x = torch.randn(2, 3, 8, 8, generator=generator(1))
    denoise = lambda x, t: torch.tanh(x * 1.3 + t[:, None, None, None] / 500)
    timesteps = ddim_timesteps(1000, 50, offset=1)
    assert timesteps == oracle.timesteps.tolist()
    noise = per_sample_noise([1, 2])
    final = schedule.alphas_cumprod[0].item()
    options = {"eta": eta, "clip_x_0": clip, "use_clipped_model_output": recompute, "final_alpha_cumprod": final}
    ours = run(ddim(denoise, x, schedule, timesteps, **options, randn_like=noise)).x
    noise = per_sample_noise([1, 2])
    theirs = x
    for t in oracle.timesteps:
        eps = denoise(theirs, t.repeat(2))
        how = {"eta": eta, "use_clipped_model_output": recompute, "variance_noise": noise(theirs) if eta else None}
        theirs = oracle.step(eps, t, theirs, **how).prev_sample
    assert torch.allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize(
    "beta_start, abar_0_last, expected",
    [(1e-4, False, 172.0067), (0.01, False, 149.8295), (0.01, True, 149.0784)],
)
def test_ddim_reaches_the_figures_of_diffusers_own_tests(beta_start, abar_0_last, expected):
    x_T, denoise = dummy_sample_and_model()
    schedule = NoiseSchedule.linear(1000, beta_start, 0.02)
    final = schedule.alphas_cumprod[0].item() if abar_0_last else 1.0
    timesteps = ddim_timesteps(1000, 10)
    x = run(ddim(denoise, x_T, schedule, timesteps, clip_x_0=True, final_alpha_cumprod=final)).x
    assert x.abs().sum().item() == pytest.approx(expected, abs=1e-2)


def test_ddpm_reaches_the_figure_of_diffusers_own_test():
    x_T, denoise = dummy_sample_and_model()
    noise = torch.Generator().manual_seed(0)
    randn_like = lambda x: torch.randn(x.shape, generator=noise)
    options = {"eta": 1.0, "clip_x_0": True, "use_clipped_model_output": True, "randn_like": randn_like}
    x = run(ddim(denoise, x_T, NoiseSchedule.linear(), ddim_timesteps(1000, 1000), **options)).x
    assert x.abs().sum().item() == pytest.approx(258.9606, abs=1e-2)


def test_dpm_solver_reaches_the_figure_of_diffusers_own_test():
    x_T, denoise = dummy_sample_and_model()
    schedule = NoiseSchedule.linear()
    final = schedule.alphas_cumprod[0].item()
    timesteps = [round(999 * k / 10) for k in range(10, 0, -1)]
    x = run(dpm_solver_pp_2m(denoise, x_T, schedule, timesteps, final_alpha_cumprod=final)).x
    assert x.abs().mean().item() == pytest.approx(0.3301, abs=1e-3)


@pytest.mark.parametrize("z", [0.0, 1.0], ids=["mean", "one standard deviation"])
def test_eta_1_over_all_steps_is_ancestral_sampling(z):
    """Against Ho et al. 2020: mean by equation 11, variance beta-tilde by equation 7."""
    schedule = NoiseSchedule.linear(100, 1e-3, 0.1)
    abar = [1.0, *schedule.alphas_cumprod.tolist()]
    x = torch.randn(1, 1, 4, 4, generator=generator(0)).double()
    denoise = lambda x, t: torch.sin(3 * x)
    for step in ddim(
        denoise, x, schedule, ddim_timesteps(100, 100), eta=1.0, randn_like=lambda x: torch.full_like(x, z)
    ):
        now, before = abar[step.t + 1], abar[step.t]
        beta = 1 - now / before
        mean = (x - beta / math.sqrt(1 - now) * denoise(x, None)) / math.sqrt(1 - beta)
        x = mean + z * math.sqrt(beta * (1 - before) / (1 - now))
        assert torch.allclose(step.x, x, atol=1e-9)
        x = step.x


def test_ddim_of_the_exact_denoiser_ends_on_the_data():
    schedule, point = NoiseSchedule.linear(), torch.randn(1, 3, 4, 4, generator=generator(3)).double()
    x_T = torch.randn(16, 3, 4, 4, generator=generator(4)).double()
    x_0 = run(ddim(two_point_denoiser(schedule, point), x_T, schedule, ddim_timesteps(1000, 200))).x
    distance = torch.minimum((x_0 - point).abs().amax((1, 2, 3)), (x_0 + point).abs().amax((1, 2, 3)))
    assert distance.max() < 1e-2
    sides = torch.sign((x_0 * point).sum((1, 2, 3)))
    assert len(sides.unique()) == 2  # both modes are reached


@pytest.mark.parametrize("eta, name", [(0.0, "dpmsolver++"), (1.0, "sde-dpmsolver++")])
def test_dpm_solver_agrees_with_diffusers(eta, name):
    schedule = NoiseSchedule.linear()
    how = {"lower_order_final": True, "timestep_spacing": "leading", "steps_offset": 1, "algorithm_type": name}
    oracle = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=2e-2, **how)
    oracle.set_timesteps(20)
    theirs = x_T = torch.randn(2, 3, 8, 8, generator=generator(1)).double()
    denoise = lambda x, t: torch.tanh(x * 1.3 + t[:, None, None, None] / 500)
    final = (1 / (1 + oracle.sigmas[-1].double() ** 2)).item()
    noise = generator(2)
    randn_like = lambda x: torch.randn(x.shape, generator=noise, dtype=x.dtype)
    options = {"eta": eta, "final_alpha_cumprod": final, "randn_like": randn_like}
    ours = run(dpm_solver_pp_2m(denoise, x_T, schedule, oracle.timesteps.tolist(), **options)).x
    noise = generator(2)
    for t in oracle.timesteps:
        theirs = oracle.step(denoise(theirs, t.repeat(2)), t, theirs, generator=noise).prev_sample
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_half_of_eta_keeps_the_levels_noise():
    """Of data that is zero, every x has the variance 1 - abar, whatever eta is."""
    schedule, x_T = NoiseSchedule.linear(), torch.randn(20_000, 1, 1, 1, generator=generator(3)).double()
    denoise = lambda x, t: x / (1 - schedule.alphas_cumprod[t[0]]).sqrt()
    for step, t in zip(dpm_solver_pp_2m(denoise, x_T, schedule, [999, 600, 300, 100], eta=0.5), [600, 300, 100]):
        assert step.x.var() == pytest.approx(1 - schedule.alphas_cumprod[t].item(), rel=0.03)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_pp_2m])
def test_v_and_eps_of_one_denoiser_give_the_same_samples(sampler):
    """In float64; in float32, x_0 from eps loses its digits at t = 999, where x_0 from v keeps them."""
    schedule, point = NoiseSchedule.cosine(), torch.randn(1, 3, 4, 4, generator=generator(3)).double()
    denoise = two_point_denoiser(schedule, point)

    def as_v(x, t):
        signal, sigma = schedule.signal_and_noise(t, x)
        x_0 = (x - sigma * denoise(x, t)) / signal
        return signal * denoise(x, t) - sigma * x_0

    x_T, timesteps = torch.randn(4, 3, 4, 4, generator=generator(4)).double(), trailing_timesteps(1000, 10)
    networks = {"eps": denoise, "v": as_v}
    steps = [list(sampler(model, x_T, schedule, timesteps, prediction=kind)) for kind, model in networks.items()]
    for a, b in zip(*steps):
        assert torch.allclose(a.x, b.x, atol=1e-6) and torch.allclose(a.x_0, b.x_0, atol=1e-6)
    first = next(iter(sampler(lambda x, t: -point.float().expand_as(x), x_T.float(), schedule, [999], prediction="v")))
    assert torch.allclose(first.x_0, point.float().expand_as(first.x_0), atol=1e-3)


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (dpm_solver_pp_2m, 2)])
def test_order_of_convergence_on_the_exact_denoiser(sampler, order):
    """Halving the step divides the error by about 2 ** order (levels between two finite noises, evenly spaced)."""
    schedule, point = (
        NoiseSchedule.linear(4096, 1e-4 / 4, 2e-2 / 4),
        0.3 * torch.randn(1, 3, 4, 4, generator=generator(3)).double(),
    )
    denoise, x_T = two_point_denoiser(schedule, point), torch.randn(8, 3, 4, 4, generator=generator(4)).double()

    def end(stride):
        final = schedule.alphas_cumprod[1024].item()
        return run(sampler(denoise, x_T, schedule, list(range(3072, 1024, -stride)), final_alpha_cumprod=final)).x

    exact = end(1)
    errors = [(end(stride) - exact).norm().item() for stride in (128, 64, 32)]
    measured = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(order - 0.3 < rate < order + 0.5 for rate in measured), measured


def test_deterministic_ddim_runs_backwards():
    schedule, point = NoiseSchedule.linear(), torch.randn(1, 3, 4, 4, generator=generator(3)).double()
    denoise = two_point_denoiser(schedule, 0.3 * point)
    x_T, timesteps = torch.randn(4, 3, 4, 4, generator=generator(4)).double(), list(range(999, 199, -1))
    x = run(ddim(denoise, x_T, schedule, timesteps, final_alpha_cumprod=schedule.alphas_cumprod[199].item())).x
    back = run(
        ddim(denoise, x, schedule, list(range(199, 999)), final_alpha_cumprod=schedule.alphas_cumprod[999].item())
    ).x
    assert torch.allclose(back, x_T, atol=0.02)
