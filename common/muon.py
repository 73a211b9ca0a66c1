"""Muon: momentum whose matrices are made orthogonal, so that every direction of a layer learns at the same rate.

Sources: Jordan et al. 2024 (Muon: the iteration, Nesterov momentum); Liu et al. 2025 (Muon is scalable for LLM
training: the scale that lets AdamW's learning rate and weight decay apply).
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from common.device import has_bf16

COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # of the odd quintic that drives singular values towards 1, fast rather than exactly


def orthogonalised(matrices: Tensor, *, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: (N, rows, columns) -> the same shape, singular values in about
    0.7..1.2.

    Newton-Schulz iterations in bf16, which is accurate enough for a direction, or in float32 where the device has no
    bf16: emulated products may round after every addition. Source: Jordan et al. 2024.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16 if has_bf16(matrices.device) else torch.float32)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for weights of two and more dimensions, flattened to (outputs, inputs); AdamW is for everything else."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            same_shape = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same_shape[parameter.shape].append(parameter)
            for shape, parameters in same_shape.items():
                directions = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    buffer = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                    directions.append(parameter.grad.lerp(buffer, group["momentum"]).flatten(1))
                stacked = orthogonalised(torch.stack(directions))
                scale = 0.2 * math.sqrt(max(stacked.shape[1:]))  # the root mean square of AdamW's updates
                for parameter, direction in zip(parameters, stacked):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction.view(shape), alpha=-group["lr"] * scale)
