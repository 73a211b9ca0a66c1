import pytest
import torch

from common.rng import batch_at, per_sample_noise, step_seed


def test_step_seeds_differ_in_every_part():
    assert len({step_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}) == 125
    assert step_seed(1, 2) != step_seed(1, 2, 0) and step_seed(2**32, 1) != step_seed(0, 1, 1)
    assert step_seed(1, 2) == step_seed(1, 2) and 0 <= step_seed(1, 2) < 2**63


def test_the_seeds_and_orders_behind_the_released_numbers_stay():
    assert (step_seed(0), step_seed(7, 3, 1)) == (7896617691693857887, 7327967498983432124)
    assert [batch_at(7, 3, seed=5, step=step).tolist() for step in (0, 3)] == [[5, 0, 4], [6, 4, 1]]
    assert per_sample_noise([3])(torch.empty(1, 4))[0].tolist() == pytest.approx(
        [0.8033, 0.1748, 0.0890, -0.6137], abs=1e-4
    )


def test_noise_has_the_type_of_what_it_is_like():
    assert per_sample_noise([3])(torch.empty(1, 4, dtype=torch.float64)).dtype == torch.float64


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    x = torch.empty(3, 2, 4, 4)
    together, alone = per_sample_noise([7, 8, 9]), per_sample_noise([8])
    for _ in range(2):  # a second draw continues the same streams
        assert torch.equal(together(x)[1:2], alone(x[:1]))


def test_wrong_batch_is_refused():
    with pytest.raises(ValueError, match="2 seeds for a batch of 3"):
        per_sample_noise([1, 2])(torch.empty(3, 1))


def test_an_epoch_visits_everything_once_and_the_next_one_in_another_order():
    epochs = [torch.cat([batch_at(12, 4, seed=0, step=3 * epoch + i) for i in range(3)]) for epoch in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match="batch size 5 exceeds"):
        batch_at(4, 5, seed=0, step=0)
