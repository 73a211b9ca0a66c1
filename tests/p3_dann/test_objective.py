"""The objective in closed form, and that training feeds it what it says."""

import math
from dataclasses import replace

import pytest
import torch

from common.training import TrainStep
from p3_dann import augment, train
from p3_dann.adversarial import class_imbalance, conditional_entropy, dann_loss, pseudo_label_loss
from p3_dann.network import DigitNetwork, NetworkConfig, Outputs
from p3_dann.objective import AdaptationBatch, Factors, ObjectiveOptions, adaptation_objective, factors_at

RELEASED = ObjectiveOptions()
OFF = Factors(lambda_=0.0, entropy=0.0, balance=0.0, pseudo=0.0)


@pytest.fixture
def batch():
    labels = torch.tensor([1, 2, 3])
    return AdaptationBatch(torch.randn(3, 10), labels, torch.randn(5, 10), torch.randn(8), 5 * torch.randn(5, 10))


def test_without_the_other_terms_it_is_danns_two_losses(batch):
    loss, parts = adaptation_objective(batch, OFF, threshold=0.5)
    domains = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    assert torch.equal(loss, dann_loss(batch.source_logits, batch.labels, batch.domain_logits, domains)[0])
    assert {"label_loss", "domain_loss", "domain_accuracy", "entropy", "imbalance"} < set(parts)


@pytest.mark.parametrize("name", ["entropy", "balance", "pseudo"])
def test_every_other_term_is_added_with_its_weight(batch, name):
    terms = {
        "entropy": conditional_entropy(batch.target_logits),
        "balance": class_imbalance(batch.target_logits),
        "pseudo": pseudo_label_loss(batch.target_logits, batch.teacher_logits, threshold=0.5)[0],
    }
    without, _ = adaptation_objective(batch, OFF, threshold=0.5)
    weighted, _ = adaptation_objective(batch, OFF._replace(**{name: 0.7}), threshold=0.5)
    assert terms[name] > 0.05 and (weighted - without).item() == pytest.approx(0.7 * terms[name].item(), abs=1e-5)


def test_no_teacher_no_pseudo_labels(batch):
    loss, parts = adaptation_objective(batch._replace(teacher_logits=None), OFF._replace(pseudo=1.0), threshold=0.5)
    assert torch.equal(loss, adaptation_objective(batch, OFF, threshold=0.5)[0]) and "pseudo_loss" not in parts


def test_factors_grow_over_the_ramp_and_pseudo_labels_start_at_their_share_of_it():
    options = ObjectiveOptions(ramp_steps=100, lambda_max=0.3, entropy=0.2, balance=0.1, pseudo=2.0, pseudo_start=0.3)
    assert factors_at(0, options) == OFF
    assert [factors_at(step, options).pseudo for step in (29, 30, 99, 1000)] == [0.0, 2.0, 2.0, 2.0]
    growth = math.tanh(5 * 0.2)
    assert factors_at(20, options)[:3] == pytest.approx((0.3 * growth, 0.2 * growth, 0.1 * growth))
    assert factors_at(100, options) == factors_at(5000, options)
    assert factors_at(100, options).lambda_ == pytest.approx(0.3, abs=1e-4)


class Recorder(torch.nn.Module):
    """A network that keeps what it is given and answers with zeros."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, x, lambda_=0.0):
        self.given.append((x, lambda_))
        return Outputs(x.flatten(1), torch.zeros(len(x), 10), torch.zeros(len(x)))


@pytest.fixture
def fed(monkeypatch):
    """Run adaptation_loss once on marked images: (student's input, lambda, teacher's inputs, parts)."""
    monkeypatch.setattr(augment, "weak", lambda x: x + 1000)
    monkeypatch.setattr(augment, "strong", lambda x: x + 2000)
    monkeypatch.setattr(augment, "random_neighbours", lambda x, *, probability: x + 4000)

    def run(step, options=RELEASED, **changed):
        source, target = (
            torch.zeros(9, 3, 28, 28, dtype=torch.uint8),
            torch.full((9, 3, 28, 28), 255, dtype=torch.uint8),
        )
        settings = replace(train.TrainOptions(batch_size=4), **changed)
        loss = train.adaptation_loss(source, torch.arange(9), target, settings, options, seed=0)
        student, teacher = Recorder(), Recorder()
        _, parts = loss(student, TrainStep(step, step, teacher))
        [(x, lambda_)] = student.given
        return x, lambda_, [given for given, _ in teacher.given], parts

    return run


def test_the_student_learns_from_strong_views_of_both_domains_and_the_teacher_sees_weak_ones_of_the_target(fed):
    x, lambda_, teacher, parts = fed(step=600)
    assert (x[:4] == -1 + 4000 + 2000).all() and (x[4:] == 1 + 2000).all()
    assert lambda_ == pytest.approx(0.3 * math.tanh(2.5))
    assert len(teacher) == 1 and (teacher[0] == 1 + 1000).all() and "pseudo_loss" in parts


def test_the_teacher_is_not_asked_before_its_labels_count(fed):
    assert fed(step=0)[2] == [] and fed(step=359)[2] == [] and len(fed(step=360)[2]) == 1
    assert fed(step=600, options=ObjectiveOptions(pseudo=0.0))[2] == []


def test_neighbours_are_svhns_and_weak_views_can_be_asked_for(fed):
    x, *_ = fed(step=0, target="usps", strong_views=False)
    assert (x[:4] == -1 + 1000).all() and (x[4:] == 1 + 1000).all()


def test_an_adapting_step_turns_the_discriminators_gradient_on_the_features():
    """One real step: with lambda the extractor moves against the discriminator, which itself moves as without."""
    images = torch.randint(0, 256, (8, 3, 28, 28), dtype=torch.uint8)
    settings = train.TrainOptions(target="usps", batch_size=8, strong_views=False)
    gradients = []
    for lambda_max in (0.0, 1.0):
        options = ObjectiveOptions(ramp_steps=1, lambda_max=lambda_max, entropy=0, balance=0, pseudo=0)
        torch.manual_seed(0)
        model = DigitNetwork(NetworkConfig(widths=(8, 8), dropout=0.0)).eval()
        loss = train.adaptation_loss(images, torch.arange(8), images.flip(0) // 2, settings, options, seed=0)
        loss(model, TrainStep(1, 0, model))[0].backward()
        gradients.append((model.extractor[1].weight.grad.clone(), model.domain[0].weight.grad.clone()))
    (without, discriminator), (with_lambda, same_discriminator) = gradients
    assert torch.allclose(discriminator, same_discriminator) and discriminator.abs().max() > 0
    assert (with_lambda - without).abs().max() > 1e-5


@pytest.mark.parametrize("normalises", [True, False])
def test_instance_norm_makes_contrast_and_brightness_irrelevant(normalises):
    model = DigitNetwork(NetworkConfig(widths=(8, 8), instance_norm=normalises)).eval()
    x = torch.rand(4, 3, 28, 28)
    changed = x * torch.tensor([0.5, 2.0, 3.0])[:, None, None] + torch.tensor([-1.0, 0.0, 1.0])[:, None, None]
    assert torch.allclose(model(x).logits, model(changed).logits, atol=1e-3) == normalises
