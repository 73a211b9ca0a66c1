"""Problem 3's network: shared features, a digit classifier and a domain discriminator.

Source: Ganin et al. 2016 (DANN), section 4; instance normalisation of the input, Shu et al. 2018 (VADA), section 6.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import option
from common.images import to_unit_range
from p3_dann.adversarial import gradient_reversal


@dataclass(frozen=True)
class NetworkConfig:
    """The network."""

    widths: tuple[int, ...] = option((64, 128, 128), "channels of each pair of convolutions", smallest=1)
    dropout: float = option(0.1, "after each pair but the last, whole channels", smallest=0, largest=1)
    hidden: int = option(256, "hidden units of the domain discriminator", smallest=1)
    instance_norm: bool = option(True, "normalise every channel of every input image")
    domain_statistics: bool = option(False, "in adaptation, normalise batches of each domain by their own statistics")


class Outputs(NamedTuple):
    features: Tensor  # (B, widths[-1])
    logits: Tensor  # (B, 10)
    domain_logits: Tensor  # (B,); positive means target


class DomainBatchNorm2d(nn.BatchNorm2d):
    """In training, batch normalisation of each half of a batch, source and target, by its own statistics.

    The two domains share gains and biases. Only the target's statistics are kept for inference.

    Source: Li et al. 2017 (AdaBN), section 3.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        source, target = x.chunk(2)
        source = F.batch_norm(source, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return torch.cat([source, super().forward(target)])


class DigitNetwork(nn.Module):
    """(B, 3, 28, 28) in [-1, 1] -> Outputs. The discriminator's gradient reaches the features times -lambda_."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [nn.InstanceNorm2d(3)] if config.instance_norm else []
        norm = DomainBatchNorm2d if config.domain_statistics else nn.BatchNorm2d
        channels = 3
        for number, width in enumerate(config.widths):
            if number > 0:
                layers += [nn.MaxPool2d(2), nn.Dropout2d(config.dropout)]
            for _ in range(2):
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    norm(width),
                    nn.LeakyReLU(0.1),
                ]
                channels = width
        self.extractor = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, 10)
        self.domain = nn.Sequential(
            nn.Linear(channels, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1), nn.Flatten(0)
        )

    def forward(self, x: Tensor, lambda_: float = 0.0) -> Outputs:
        features = self.extractor(x)
        return Outputs(features, self.classifier(features), self.domain(gradient_reversal(features, lambda_)))


def prepare(images: Tensor) -> Tensor:
    """The network's input from (B, 3, 28, 28) uint8 images."""
    return to_unit_range(images)
