import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.diffusion import (
    NoiseSchedule,
    NotFinite,
    ddim,
    ddim_timesteps,
    dpm_solver_pp_2m,
    run,
    stratified_timesteps,
    trailing_timesteps,
)
from common.rng import generator


def test_linear_schedule_is_ddpms():
    schedule = NoiseSchedule.linear(1000)
    assert schedule.alphas_cumprod.dtype == torch.float64 and len(schedule) == 1000
    assert schedule.alphas_cumprod[0].item() == pytest.approx(0.9999, abs=1e-12)
    expected = math.exp(sum(math.log1p(-(1e-4 + (2e-2 - 1e-4) * i / 999)) for i in range(1000)))
    assert schedule.alphas_cumprod[-1].item() == pytest.approx(expected, rel=1e-10)


def test_cosine_schedule_has_its_closed_form_before_the_clipped_end():
    abar = NoiseSchedule.cosine(1000).alphas_cumprod
    f = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    for t in (0, 100, 500, 900):
        assert abar[t].item() == pytest.approx(f((t + 1) / 1000) / f(0), rel=1e-9)
    assert (abar[1:] < abar[:-1]).all() and abar[-1] > 0


def test_add_noise_has_the_schedules_moments():
    schedule = NoiseSchedule.linear()
    x_0 = torch.full((4, 3, 64, 64), 0.5)
    t = torch.tensor([0, 300, 600, 999])
    x_t = schedule.add_noise(x_0, torch.randn(x_0.shape, generator=generator(0)), t)
    abar = schedule.alphas_cumprod[t].float()
    assert torch.allclose(x_t.mean((1, 2, 3)), 0.5 * abar.sqrt(), atol=0.03)
    assert torch.allclose(x_t.var((1, 2, 3)), 1 - abar, rtol=0.05)


def test_timesteps_fill_every_part_of_the_range_once():
    t = stratified_timesteps(10, 1000)
    assert sorted((t // 100).tolist()) == list(range(10)) or len(set(((t - t.min()) // 100).tolist())) == 10
    many = torch.cat([stratified_timesteps(10, 1000) for _ in range(2000)])
    assert many.min() >= 0 and many.max() <= 999 and abs(many.float().mean() - 499.5) < 5


@given(st.integers(1, 1000), st.data())
def test_timesteps_are_evenly_spaced_and_fall(num_timesteps, data):
    num_steps = data.draw(st.integers(1, num_timesteps))
    timesteps = ddim_timesteps(num_timesteps, num_steps)
    assert len(set(timesteps)) == num_steps and timesteps[-1] == 0
    assert num_timesteps > timesteps[0] >= num_timesteps - math.ceil(num_timesteps / num_steps)
    gaps = {a - b for a, b in zip(timesteps, timesteps[1:])}
    assert gaps <= {num_timesteps // num_steps, num_timesteps // num_steps + 1}


@given(st.integers(1, 1000))
def test_trailing_timesteps_begin_at_the_noisiest_and_are_even(num_steps):
    timesteps = trailing_timesteps(1000, num_steps)
    gaps = [a - b for a, b in zip(timesteps, [*timesteps[1:], -1])]
    assert len(timesteps) == num_steps and timesteps[0] == 999 and timesteps[-1] >= 0 and max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("spacing, finest", [(0.5, "noisy"), (2.0, "clean")])
def test_spacing_makes_the_steps_smaller_at_one_end(spacing, finest):
    timesteps = trailing_timesteps(1000, 20, spacing=spacing)
    gaps = [a - b for a, b in zip(timesteps, [*timesteps[1:], -1])]
    assert timesteps[0] == 999 and gaps == sorted(gaps, reverse=finest == "clean") and gaps[0] != gaps[-1]
    with pytest.raises(ValueError, match="fewer steps"):
        trailing_timesteps(1000, 900, spacing=spacing)


@pytest.mark.parametrize(
    "num_steps, detail_steps, last", [(4, 3, [249, 124, 62, 31]), (1000, 3, [2, 1, 0]), (200, 9, [9, 4, 2, 1])]
)
def test_detail_steps_halve_the_last_timestep_until_it_is_the_first(num_steps, detail_steps, last):
    timesteps = trailing_timesteps(1000, num_steps, detail_steps=detail_steps)
    assert timesteps[-len(last) :] == last
    assert timesteps[:num_steps] == trailing_timesteps(1000, num_steps)


@pytest.mark.parametrize(
    "num_steps, early_steps, begin", [(10, 3, [999, 987, 974, 949, 899]), (500, 3, [999, 998, 997]), (1, 3, [999])]
)
def test_early_steps_halve_the_way_to_the_second_timestep_as_long_as_they_are_distinct(num_steps, early_steps, begin):
    timesteps = trailing_timesteps(1000, num_steps, early_steps=early_steps)
    assert timesteps[: len(begin)] == begin
    assert [t for t in timesteps if t not in begin[1:-1]] == trailing_timesteps(1000, num_steps)


@pytest.mark.parametrize("steps, offset", [(0, 0), (1001, 0), (1000, 1), (50, -1)])
def test_impossible_timesteps_are_refused(steps, offset):
    with pytest.raises(ValueError, match="give 1 to 1000$|leave 0 to 999$"):
        ddim_timesteps(1000, steps, offset=offset)
    if offset == 0:
        with pytest.raises(ValueError, match="give 1 to 1000$"):
            trailing_timesteps(1000, steps)


def test_timesteps_out_of_the_range_are_named():
    with pytest.raises(ValueError, match="offset 991: timesteps 991 to 1491 leave 0 to 999"):
        ddim_timesteps(1000, 2, offset=991)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_pp_2m])
def test_an_unknown_prediction_is_refused(sampler):
    with pytest.raises(ValueError, match="'x_0': give 'eps' or 'v'"):
        next(iter(sampler(lambda x, t: x, torch.zeros(1, 1, 1, 1), NoiseSchedule.linear(), [10], prediction="x_0")))
    assert next(iter(sampler(lambda x, t: x, torch.ones(1, 1, 1, 1), NoiseSchedule.linear(), [10]))).x.isfinite()


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_pp_2m])
def test_estimates_beyond_either_bound_are_clipped(sampler):
    schedule, x_T = NoiseSchedule.linear(), torch.tensor([-3.0, 3.0, 1e-3]).reshape(3, 1, 1, 1)
    step = next(iter(sampler(lambda x, t: torch.zeros_like(x), x_T, schedule, [999, 1], clip_x_0=True)))
    assert step.x_0.flatten()[:2].tolist() == [-1, 1] and 0 < step.x_0[2] < 1


def test_samples_keep_the_type_of_the_starting_noise_whatever_the_network_computes_in():
    x_T = torch.randn(1, 3, 4, 4, generator=generator(0))
    for sampler in (ddim, dpm_solver_pp_2m):
        assert run(sampler(lambda x, t: x.bfloat16(), x_T, NoiseSchedule.linear(), [900, 500, 10])).x.dtype == x_T.dtype


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_second_order_begins_below_its_timestep(eta):
    schedule, x_T = NoiseSchedule.linear(), torch.linspace(-2, 2, 9).reshape(9, 1, 1, 1).double()
    timesteps, how = [900, 700, 500, 300], {"eta": eta, "randn_like": lambda x: 0.1 * x.sign()}
    denoise = lambda x, t: torch.tanh(x * 1.3 + t[:, None, None, None] / 500)
    first = [step.x for step in ddim(denoise, x_T, schedule, timesteps, **how)]
    for below, same in ((701, 1), (700, 2), (501, 2), (500, 4)):  # the last step ends without noise
        mixed = [
            step.x for step in dpm_solver_pp_2m(denoise, x_T, schedule, timesteps, second_order_below=below, **how)
        ]
        close = [torch.allclose(a, b, atol=1e-9) for a, b in zip(first, mixed)]
        assert close == [True] * same + [False] * (4 - same)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver_pp_2m])
def test_without_eta_no_noise_is_drawn(sampler):
    drawn = []
    randn_like = lambda x: drawn.append(1) or torch.randn_like(x)
    x_T, schedule = torch.randn(1, 1, 2, 2), NoiseSchedule.linear()
    run(sampler(lambda x, t: x, x_T, schedule, [900, 10], randn_like=randn_like))
    assert not drawn
    run(sampler(lambda x, t: x, x_T, schedule, [900, 10], eta=1.0, randn_like=randn_like))
    assert len(drawn) == 1  # none in the last step


def test_an_image_that_is_not_finite_ends_the_run_with_its_row_and_timestep():
    second = torch.tensor([0.0, math.inf]).reshape(2, 1, 1, 1)
    denoise = lambda x, t: torch.where((t == 500)[:, None, None, None], second, x)
    with pytest.raises(NotFinite) as found:
        run(ddim(denoise, torch.ones(2, 1, 2, 2), NoiseSchedule.linear(), [900, 500, 10]))
    assert (found.value.t, found.value.row) == (500, 1)


def test_the_clipped_estimate_rules_the_next_step_only_where_asked():
    schedule, x_T = NoiseSchedule.linear(), torch.full((1, 1, 1, 1), 3.0).double()
    denoise = lambda x, t: torch.zeros_like(x)  # x_0 = x / signal, far beyond 1
    kept, recomputed = (
        next(iter(ddim(denoise, x_T, schedule, [999, 499], clip_x_0=True, **options)))
        for options in ({}, {"use_clipped_model_output": True})
    )
    signal, sigma = schedule.alphas_cumprod.sqrt(), (1 - schedule.alphas_cumprod).sqrt()
    assert kept.x_0 == recomputed.x_0 == 1 and kept.x.item() == pytest.approx(signal[499].item())
    eps = (3 - signal[999]) / sigma[999]
    assert recomputed.x.item() == pytest.approx((signal[499] + sigma[499] * eps).item())
