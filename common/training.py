"""One training loop for all networks: EMA, resumable to the bit, metrics, one or many processes (torchrun)."""
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from common.checkpoint import load_tensors
from common.cli import UserError
from common.config import option, to_json
from common.files import whole_file
from common.muon import Muon
from common.rng import step_seed


@dataclass(frozen=True)
class FitOptions:
    steps: int = option(5000, "optimiser steps")
    optimizer: str = option("adamw", "of the hidden matrices; AdamW for the other parameters", choices=("muon", "adamw"))
    learning_rate: float = option(1e-3, "peak learning rate")
    warmup: int = option(200, "steps of linear warm-up")
    cooldown: float = option(0.4, "share of the steps, at the end, over which the learning rate falls linearly to 0")
    weight_decay: float = option(0.01, "decoupled, of both optimisers")
    clip: float = option(1.0, "largest gradient norm")
    ema_decay: float = option(0.999, "decay of the exponential moving average of the weights")
    seed: int = option(0, "all randomness is a function of (seed, step)")
    precision: str = option("bf16", "of the forward pass", choices=("bf16", "float32"))
    save_every: int = option(500, "steps between two resumable states")
    log_every: int = option(50, "steps averaged in one line of metrics.jsonl")


class TrainStep(NamedTuple):
    """What a loss may depend on besides the network."""

    step: int
    batch: int  # number of this process's batch: no other step of any process has it
    progress: float  # 0 at the first step, towards 1
    ema: nn.Module  # the averaged network, e.g. as a teacher; not to be trained


Loss = Callable[[nn.Module, TrainStep], tuple[Tensor, dict[str, float | Tensor]]]


def learning_rate_factor(step: int, options: FitOptions) -> float:
    """Linear warm-up, constant, linear decay: trapezoid in 0..1."""
    up = (step + 1) / max(options.warmup, 1)
    down = (options.steps - step) / max(options.steps * options.cooldown, 1)
    return min(1.0, up, down)


def make_optimizers(module: nn.Module, options: FitOptions) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon before it where asked for.

    Muon gets the hidden matrices: two or more dimensions and more than 16 inputs and outputs, which leaves out embeddings of
    classes, output layers of few channels, biases and gains.
    """
    parameters = list(module.parameters())
    hidden = [p for p in parameters if options.optimizer == "muon" and p.ndim >= 2 and min(p.flatten(1).shape) > 16]
    others = [p for p in parameters if not any(p is h for h in hidden)]
    common: dict[str, float] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    return [kind(some, **common) for kind, some in ((Muon, hidden), (torch.optim.AdamW, others)) if some]


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """EMA of parameters and buffers; early on the decay is (1 + n) / (10 + n), so that the random start fades quickly."""

    def average(mean: Tensor, new: Tensor, count: Tensor) -> Tensor:
        n = float(count)
        return mean + (new - mean) * (1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(module, avg_fn=average, use_buffers=True).eval()


def fit(loss: Loss, module: nn.Module, options: FitOptions, run: Path) -> nn.Module:
    """Train `module` in place and return its averaged copy.

    `run` gets config.json, metrics.jsonl and state.pt; where it holds a state of the same options, training goes on from
    there, and the result is the same to the bit as without the interruption. Under torchrun every process has its own
    batches and random numbers, and gradients are averaged.

    Raises:
        UserError: the run folder holds a run with other options.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = next(module.parameters()).device
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    ema = averaged(module, options.ema_decay)
    optimizers = make_optimizers(module, options)
    parts = {"module": module, "ema": ema} | {type(optimizer).__name__: optimizer for optimizer in optimizers}
    start, sums = _resume(run, options, parts)
    trained = DistributedDataParallel(module, find_unused_parameters=True) if world > 1 else module
    autocast = torch.autocast(device.type, torch.bfloat16) if options.precision == "bf16" else nullcontext()
    module.train()
    bar = tqdm(range(start, options.steps), initial=start, total=options.steps, unit="step", disable=rank > 0, mininterval=1.0)
    for step in bar:
        torch.manual_seed(step_seed(options.seed, step, rank))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * learning_rate_factor(step, options)
        with autocast:
            value, metrics = loss(trained, TrainStep(step, step * world + rank, step / options.steps, ema.module))
        module.zero_grad(set_to_none=True)
        value.backward()
        metrics["loss"] = value.detach()
        metrics["gradient_norm"] = nn.utils.clip_grad_norm_(module.parameters(), options.clip)
        for optimizer in optimizers:
            optimizer.step()
        ema.update_parameters(module)
        for name, metric in metrics.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + metric
        done = step + 1
        if done % options.log_every == 0 and rank == 0:
            means = {name: round(float(total) / options.log_every, 6) for name, total in sums.items()}
            bar.set_postfix(loss=f"{means['loss']:.4f}")
            with open(run / "metrics.jsonl", "a") as file:
                file.write(json.dumps({"step": done, **means}) + "\n")
        if done % options.log_every == 0:
            sums = {}
        if (done % options.save_every == 0 or done == options.steps) and rank == 0:
            with whole_file(run / "state.pt") as temporary:
                torch.save({"step": done, "sums": sums, **{k: v.state_dict() for k, v in parts.items()}}, temporary)
    return ema.module


def _resume(run: Path, options: FitOptions, parts: dict[str, Any]) -> tuple[int, dict[str, Tensor]]:
    """Restore the parts from run/state.pt; return the steps done and the metrics summed since the last line."""
    run.mkdir(parents=True, exist_ok=True)
    config, metrics, state = run / "options.json", run / "metrics.jsonl", run / "state.pt"
    if not state.exists():
        config.write_text(json.dumps(to_json(options), indent=1) + "\n")
        metrics.write_text("")
        return 0, {}
    if json.loads(config.read_text()) != to_json(options):
        raise UserError(f"{run}: holds a run with other options (see {config.name}); give the same ones, or another --run folder")
    content = load_tensors(state)
    for name, part in parts.items():
        part.load_state_dict(content[name])
    lines = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] <= content["step"]]
    metrics.write_text("".join(line + "\n" for line in lines))
    device = next(parts["module"].parameters()).device
    return content["step"], {name: total.to(device) for name, total in content["sums"].items()}
