"""What adaptation minimises: DANN's two losses, and the terms of self-training that go with them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from common.config import option
from p3_dann.adversarial import adaptation_factor, class_imbalance, conditional_entropy, dann_loss, pseudo_label_loss


@dataclass(frozen=True)
class ObjectiveOptions:
    """Weights of the losses.

    DANN alone (Ganin et al. 2016) is lambda_max 1 and the other three weights 0.
    """

    ramp_steps: int = option(
        1200, "steps over which lambda grows; progress is the share of them that is done", smallest=1
    )
    lambda_max: float = option(0.3, "largest factor of the reversed gradient", smallest=0)
    discriminator_rate: float = option(
        0.0, "the discriminator's by AdamW, over --learning-rate; 0 = as all else", smallest=0
    )
    entropy: float = option(0.1, "weight of the target predictions' entropy, grown with lambda", smallest=0)
    balance: float = option(0.1, "weight of the target predictions' class imbalance, grown with lambda", smallest=0)
    pseudo: float = option(1.0, "weight of the averaged network's labels on target images", smallest=0)
    pseudo_start: float = option(0.3, "progress from which they count", smallest=0, largest=1)
    threshold: float = option(0.9, "confidence above which they count", smallest=0, largest=1)


class Factors(NamedTuple):
    """The weights at one step."""

    lambda_: float
    entropy: float
    balance: float
    pseudo: float


class AdaptationBatch(NamedTuple):
    """What the networks say of a batch of S source and T target images, in float32."""

    source_logits: Tensor  # (S, 10)
    labels: Tensor  # (S,) int64, of the source images
    target_logits: Tensor  # (T, 10)
    domain_logits: Tensor  # (S + T,), source first, from features behind the gradient reversal
    teacher_logits: Tensor | None  # (T, 10) from the averaged network; None where pseudo-labels don't count


def factors_at(step: int, options: ObjectiveOptions) -> Factors:
    """The weights at a step, 0 the first. Source: Ganin et al. 2016, section 5.2.2, for the growth of lambda."""
    progress = min(step / options.ramp_steps, 1.0)
    growth = adaptation_factor(progress)
    pseudo = options.pseudo if progress >= options.pseudo_start else 0.0
    return Factors(options.lambda_max * growth, options.entropy * growth, options.balance * growth, pseudo)


def adaptation_objective(
    batch: AdaptationBatch, factors: Factors, *, threshold: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its parts as numbers to report. lambda_ acts in the network's gradient reversal, not here."""
    source, target = len(batch.source_logits), len(batch.target_logits)
    domains = torch.arange(source + target, device=batch.labels.device) >= source
    loss, parts = dann_loss(batch.source_logits, batch.labels, batch.domain_logits, domains)
    entropy, imbalance = conditional_entropy(batch.target_logits), class_imbalance(batch.target_logits)
    loss = loss + factors.entropy * entropy + factors.balance * imbalance
    parts |= {"entropy": entropy.detach(), "imbalance": imbalance.detach()}
    if batch.teacher_logits is not None:
        pseudo, pseudo_parts = pseudo_label_loss(batch.target_logits, batch.teacher_logits, threshold=threshold)
        loss = loss + factors.pseudo * pseudo
        parts |= pseudo_parts
    return loss, parts
