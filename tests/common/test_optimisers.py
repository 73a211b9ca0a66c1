import pytest
from torch import nn

from common.optimisers import Average, FitOptions, learning_rate_factor, make_optimizers


def test_only_matrices_and_kernels_decay():
    layers = {
        "label": nn.Embedding(30, 20),
        "conv": nn.Conv2d(20, 40, 3),
        "norm": nn.GroupNorm(4, 40),
        "out": nn.Linear(40, 2),
    }
    module = nn.ModuleDict(layers)
    muon, adamw = make_optimizers(module, FitOptions(optimizer="muon", weight_decay=0.1))
    decayed = [
        p
        for optimizer in (muon, adamw)
        for group in optimizer.param_groups
        if group["weight_decay"]
        for p in group["params"]
    ]
    others = [
        p
        for optimizer in (muon, adamw)
        for group in optimizer.param_groups
        if not group["weight_decay"]
        for p in group["params"]
    ]
    assert {*decayed} == {module["conv"].weight, module["out"].weight} and muon.param_groups[0]["params"] == [
        module["conv"].weight
    ]
    assert {*decayed, *others} == {*module.parameters()}


def test_a_named_child_is_adamws_at_its_own_rate():
    module = nn.ModuleDict({"body": nn.Linear(32, 32), "head": nn.Linear(32, 32)})
    muon, adamw = make_optimizers(module, FitOptions(optimizer="muon", weight_decay=0.1), {"head": 0.25})
    assert muon.param_groups[0]["params"] == [module["body"].weight]
    found = {p: (group["weight_decay"], group["rate"]) for group in adamw.param_groups for p in group["params"]}
    head, body = module["head"], module["body"]
    assert found == {head.weight: (0.1, 0.25), head.bias: (0.0, 0.25), body.bias: (0.0, 1.0)}


def test_learning_rate_is_a_trapezoid():
    options = FitOptions(steps=100, warmup=10, cooldown=0.2)
    factors = [learning_rate_factor(step, options) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[50] == 1.0 and factors[99] == pytest.approx(0.05)
    assert max(factors) == 1.0 and factors.index(1.0) == 9 and min(factors) > 0


def test_the_average_forgets_its_random_start_and_then_decays_as_asked():
    module, expected = nn.BatchNorm1d(1), 0.0
    average = Average(module, decay=0.2)
    for number, decay in enumerate((0, 2 / 11, 0.2, 0.2)):
        for tensor in (module.weight, module.running_mean):
            nn.init.constant_(tensor, number**2 + 1)
        module.num_batches_tracked.fill_(number)
        average.update(module)
        expected = decay * expected + (1 - decay) * (number**2 + 1)
        assert average.module.weight.item() == pytest.approx(expected)
        assert average.module.running_mean.item() == pytest.approx(expected)
        assert average.module.num_batches_tracked == number and not average.module.weight.requires_grad
