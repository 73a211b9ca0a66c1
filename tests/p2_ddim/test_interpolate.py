import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2_ddim.sampling import lerp, slerp


def pair(seed, size=64):
    return torch.randn(2, 1, 3, size, size, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 100))
def test_both_end_at_the_two_noises(seed):
    a, b = pair(seed, 4)
    for interpolate in (lerp, slerp):
        assert torch.allclose(interpolate(a, b, 0.0), a, atol=1e-6) and torch.allclose(
            interpolate(a, b, 1.0), b, atol=1e-6
        )


def test_slerp_keeps_the_norm_where_lerp_loses_it():
    a, b = pair(0)
    radius = math.sqrt(a.numel())
    assert slerp(a, b, 0.5).norm() == pytest.approx(radius, rel=0.02)
    assert lerp(a, b, 0.5).norm() == pytest.approx(radius / math.sqrt(2), rel=0.02)


@given(st.floats(0, 1))
def test_slerp_turns_at_constant_speed(w):
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = torch.tensor([2 * math.cos(w * math.pi / 2), 2 * math.sin(w * math.pi / 2)])
    assert torch.allclose(slerp(a, b, w), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0])
def test_parallel_vectors_are_interpolated_linearly(factor):
    a = torch.randn(10, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(slerp(a, factor * a, 0.3), lerp(a, factor * a, 0.3), atol=1e-6)
