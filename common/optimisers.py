"""How weights move: optimisers, the learning rate over the steps, and the moving average."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.config import option
from common.muon import Muon


@dataclass(frozen=True)
class FitOptions:
    """Optimisation and the run."""

    steps: int = option(5000, "optimiser steps; a run can be made longer", smallest=1)
    optimizer: str = option(
        "adamw", "of the hidden matrices; AdamW for the other parameters", choices=("muon", "adamw")
    )
    learning_rate: float = option(1e-3, "peak learning rate", smallest=0, largest=1e6)
    warmup: int = option(200, "steps of linear warm-up", smallest=0)
    cooldown: float = option(
        0.4, "share of the steps, at the end, over which the learning rate falls linearly to 0", smallest=0, largest=1
    )
    weight_decay: float = option(
        0.01, "decoupled, of matrices and kernels alone: not of gains, biases and embeddings", smallest=0
    )
    clip: float = option(1.0, "largest gradient norm; 0 = no limit", smallest=0)
    ema_decay: float = option(0.999, "decay of the exponential moving average of the weights", smallest=0, largest=1)
    seed: int = option(0, "all randomness is a function of (seed, step)", smallest=0)
    precision: str = option(
        "bf16", "of the forward pass; GPUs without bf16 take fp16", choices=("bf16", "fp16", "float32")
    )
    save_every: int = option(500, "steps between two resumable states", smallest=1)
    log_every: int = option(50, "steps averaged in one line of metrics.jsonl", smallest=1)


def cooldown_steps(options: FitOptions) -> int:
    """The last steps, over which the learning rate falls."""
    return max(round(options.steps * options.cooldown), 1)


def learning_rate_factor(step: int, options: FitOptions) -> float:
    """Linear warm-up, constant, linear decay: trapezoid in 0..1."""
    up = (step + 1) / max(options.warmup, 1)
    down = (options.steps - step) / cooldown_steps(options)
    return min(1.0, up, down)


def constant_steps(options: FitOptions) -> int:
    """After how many steps the learning rate begins to fall; until then it doesn't depend on `options.steps`."""
    return options.steps - cooldown_steps(options) + 1


def make_optimizers(
    module: nn.Module, options: FitOptions, rates: Mapping[str, float] | None = None
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon before it where asked for.

    Muon gets the hidden matrices: two or more dimensions and more than 16 inputs and outputs, which leaves out
    embeddings, output layers of few channels, biases and gains. Only matrices and kernels decay: a smaller gain, bias
    or embedding is no simpler. Children of the module that `rates` names are AdamW's, at that multiple of the learning
    rate.
    """
    rates = rates or {}
    embeddings = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}
    hidden, others = [], defaultdict(list)  # the others by weight decay and rate
    for name, p in module.named_parameters():
        child, vector = name.split(".")[0], p.ndim < 2 or p in embeddings
        if options.optimizer == "muon" and not vector and min(p.flatten(1).shape) > 16 and child not in rates:
            hidden.append(p)
        else:
            others[0.0 if vector else options.weight_decay, rates.get(child, 1.0)].append(p)
    adamw = [{"params": others[key], "weight_decay": key[0], "rate": key[1]} for key in sorted(others, reverse=True)]
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        optimizers.append(Muon(hidden, options.learning_rate, weight_decay=options.weight_decay))
    if adamw:
        optimizers.append(torch.optim.AdamW(adamw, lr=options.learning_rate))
    return optimizers


def check_memory(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless what an optimiser remembers of its parameters, after a step, can be theirs."""
    remembered = [
        (p, optimizer.state[p]) for group in optimizer.param_groups for p in group["params"] if p in optimizer.state
    ]
    if len({tuple(sorted(memory)) for _, memory in remembered}) != 1:
        raise ValueError("an optimiser's memory is lost")
    for parameter, memory in remembered:
        if not all(isinstance(value, Tensor) and value.shape in ((), parameter.shape) for value in memory.values()):
            raise ValueError("an optimiser's memory is of another network")


class Average:
    """The exponential moving average of a module's parameters and buffers.

    The decay of update n is at most (1 + n) / (10 + n): the random start fades quickly. It is one number a step, known
    to the CPU, and all tensors move in one call. A GPU is never waited for.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay, self.updates = copy.deepcopy(module).eval().requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        mean, new = ([*m.parameters(), *m.buffers()] for m in (self.module, module))
        floats = [(a, b) for a, b in zip(mean, new) if a.is_floating_point() and self.updates > 0]
        if floats:
            n, means = self.updates, [a for a, _ in floats]
            weight = 1 - min(self.decay, (1 + n) / (10 + n))
            torch._foreach_add_(means, torch._foreach_sub([b for _, b in floats], means), alpha=weight)
        for a, b in zip(mean, new):
            if self.updates == 0 or not a.is_floating_point():
                a.copy_(b)
        self.updates += 1

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]
        self.updates = int(state["updates"])  # type: ignore[arg-type]
