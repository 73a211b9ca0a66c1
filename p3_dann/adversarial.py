"""Domain-adversarial losses and the terms on unlabelled target images that go with them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, lambda_: float) -> Tensor:
        context.lambda_ = lambda_
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.lambda_ * gradient, None


def gradient_reversal(x: Tensor, lambda_: float) -> Tensor:
    """x as it is; its gradient times -lambda_. Source: Ganin & Lempitsky 2015, equations 7 and 8."""
    return _Reversal.apply(x, lambda_)


def adaptation_factor(progress: float, gamma: float = 10.0) -> float:
    """lambda over training: 0 at progress 0, nearly 1 at 1. Source: Ganin et al. 2016, section 5.2.2."""
    return 2 / (1 + math.exp(-gamma * progress)) - 1


def dann_loss(
    source_logits: Tensor, labels: Tensor, domain_logits: Tensor, domains: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the source digits plus binary cross-entropy of the domains.

    source_logits (S, 10), labels (S,) int64; domain_logits (B,) from reversed features, domains (B,) 0 source, 1
    target. The second value holds both terms and the discriminator's accuracy.

    Source: Ganin et al. 2016, equation 9.
    """
    label_loss = F.cross_entropy(source_logits, labels)
    domain_loss = F.binary_cross_entropy_with_logits(domain_logits, domains.to(domain_logits))
    domain_accuracy = ((domain_logits > 0) == (domains == 1)).float().mean()
    parts = {"label_loss": label_loss, "domain_loss": domain_loss, "domain_accuracy": domain_accuracy}
    return label_loss + domain_loss, {name: part.detach() for name, part in parts.items()}


def conditional_entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the rows' predictions (B, K), in nats.

    Source: Grandvalet & Bengio 2004; Shu et al. 2018, equation 3.
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def class_imbalance(logits: Tensor) -> Tensor:
    """log K minus the entropy of the batch's mean prediction (B, K): 0 where all classes are predicted equally often.

    Source: Krause et al. 2010 (RIM), section 3.
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    return math.log(logits.shape[1]) + (mean * mean.clamp(min=1e-12).log()).sum()


def pseudo_label_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, threshold: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy with the teacher's classes where it is surer than `threshold`, 0 elsewhere; mean over all (B, K)
    rows.

    Source: French et al. 2018 (self-ensembling), section 3.2; Sohn et al. 2020 (FixMatch), equation 4.
    """
    confidence, classes = teacher_logits.softmax(dim=1).max(dim=1)
    sure = (confidence > threshold).float()
    loss = (F.cross_entropy(student_logits, classes, reduction="none") * sure).mean()
    return loss, {"pseudo_loss": loss.detach(), "pseudo_share": sure.mean()}
