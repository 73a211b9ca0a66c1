import math

import pytest
import torch
import torch.nn.functional as F

from p3_dann.adversarial import (
    adaptation_factor,
    class_imbalance,
    conditional_entropy,
    dann_loss,
    gradient_reversal,
    pseudo_label_loss,
)
from p3_dann.network import DigitNetwork, NetworkConfig


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_reversal_keeps_values_and_turns_gradients(lambda_):
    x = torch.randn(3, 4, requires_grad=True)
    y = gradient_reversal(x, lambda_)
    (y**3).sum().backward()
    assert torch.equal(y, x) and torch.allclose(x.grad, -lambda_ * 3 * x.detach() ** 2)


def test_adaptation_factor_rises_from_0_to_1():
    assert adaptation_factor(0.0) == 0.0 and adaptation_factor(1.0) == pytest.approx(1.0, abs=1e-4)
    assert adaptation_factor(0.1) == pytest.approx(math.tanh(0.5))  # 2 sigmoid(x) - 1 = tanh(x / 2)


def test_the_features_are_pushed_against_the_discriminator_and_it_is_not():
    torch.manual_seed(0)
    model = DigitNetwork(NetworkConfig(widths=(8, 8), dropout=0.0)).eval()
    x, domains = torch.randn(6, 3, 28, 28), torch.tensor([0, 0, 0, 1, 1, 1])
    gradients = []
    for lambda_ in (-1.0, 0.5):  # -1 makes the reversal the identity
        model.zero_grad()
        F.binary_cross_entropy_with_logits(model(x, lambda_).domain_logits, domains.float()).backward()
        gradients.append((model.extractor[1].weight.grad.clone(), model.domain[0].weight.grad.clone()))
    (plain, plain_domain), (turned, turned_domain) = gradients
    assert plain.abs().max() > 0 and torch.allclose(turned, -0.5 * plain, atol=1e-7)
    assert torch.allclose(turned_domain, plain_domain)


def test_dann_loss_is_the_sum_of_its_parts():
    source_logits, labels = torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    domain_logits, domains = torch.tensor([-1.0, 2.0, 0.5, -4.0, 3.0]), torch.tensor([0, 0, 1, 1, 1])
    total, parts = dann_loss(source_logits, labels, domain_logits, domains)
    assert parts["domain_loss"] == pytest.approx(sum(math.log1p(math.exp(wrong)) for wrong in (-1, 2, -0.5, 4, -3)) / 5)
    assert parts["label_loss"] == pytest.approx(-source_logits.log_softmax(1)[range(4), labels].mean().item())
    assert total == pytest.approx(float(parts["label_loss"] + parts["domain_loss"]))
    assert parts["domain_accuracy"] == pytest.approx(3 / 5)


def test_entropy_and_imbalance_of_known_predictions():
    uniform, sure = torch.zeros(10, 10), torch.eye(10) * 100
    assert conditional_entropy(uniform) == pytest.approx(math.log(10)) and conditional_entropy(sure) == pytest.approx(
        0, abs=1e-6
    )
    assert class_imbalance(sure) == pytest.approx(0, abs=1e-6)
    assert class_imbalance(sure[:1].repeat(10, 1)) == pytest.approx(math.log(10), abs=1e-5)


def test_only_sure_teachers_teach():
    teacher = torch.tensor([[10.0, 0.0], [0.1, 0.0], [0.0, 10.0]])
    student = torch.zeros(3, 2, requires_grad=True)
    loss, metrics = pseudo_label_loss(student, teacher, threshold=0.9)
    loss.backward()
    assert metrics["pseudo_share"] == pytest.approx(2 / 3) and loss.item() == pytest.approx(2 / 3 * math.log(2))
    assert student.grad[1].abs().max() == 0 and student.grad[0, 0] < 0 and student.grad[2, 1] < 0
