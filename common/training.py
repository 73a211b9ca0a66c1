"""One training loop for all networks: EMA, resumable to the bit, metrics, one or many processes (torchrun)."""
import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from common.checkpoint import load_tensors, save_tensors
from common.cli import UserError, autocast
from common.config import option, to_json
from common.muon import Muon
from common.rng import step_seed


@dataclass(frozen=True)
class FitOptions:
    steps: int = option(5000, "optimiser steps", smallest=1)
    optimizer: str = option("adamw", "of the hidden matrices; AdamW for the other parameters", choices=("muon", "adamw"))
    learning_rate: float = option(1e-3, "peak learning rate", smallest=0)
    warmup: int = option(200, "steps of linear warm-up", smallest=0)
    cooldown: float = option(0.4, "share of the steps, at the end, over which the learning rate falls linearly to 0", smallest=0, largest=1)
    weight_decay: float = option(0.01, "decoupled, of both optimisers", smallest=0)
    clip: float = option(1.0, "largest gradient norm", smallest=0)
    ema_decay: float = option(0.999, "decay of the exponential moving average of the weights", smallest=0, largest=1)
    seed: int = option(0, "all randomness is a function of (seed, step)", smallest=0)
    precision: str = option("bf16", "of the forward pass", choices=("bf16", "float32"))
    save_every: int = option(500, "steps between two resumable states", smallest=1)
    log_every: int = option(50, "steps averaged in one line of metrics.jsonl", smallest=1)


class TrainStep(NamedTuple):
    """What a loss may depend on besides the network."""

    step: int
    batch: int  # number of this process's batch: no other step of any process has it
    progress: float  # 0 at the first step, towards 1
    ema: nn.Module  # the averaged network, e.g. as a teacher; not to be trained


Loss = Callable[[nn.Module, TrainStep], tuple[Tensor, dict[str, float | Tensor]]]


def training_parser(description: str | None, *, data: str) -> argparse.ArgumentParser:
    """The options that every training command has; `data` is the help text of --data. @FILE stands for the arguments in it, one a line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars="@"
    )
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--run", type=Path, required=True, help="folder for metrics, state and weights.pt; resumes by itself")
    parser.add_argument("--device", default="auto")
    return parser


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


def fingerprint(*data: Tensor) -> str:
    """What tells one data set from another, for the settings of `fit`."""
    digest = hashlib.sha256()
    for tensor in data:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def is_main_process() -> bool:
    """Whether this process is the only one or torchrun's first, the one that writes files."""
    return os.environ.get("RANK", "0") == "0"


def fit(
    loss: Loss,
    module: nn.Module,
    options: FitOptions,
    run: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    on_save: Callable[[nn.Module], object] = lambda ema: None,
) -> nn.Module:
    """Train `module` in place and return its averaged copy, with which `on_save` is called whenever the state is saved.

    `run` gets options.json, metrics.jsonl (means over log_every steps, the seconds a step took among them) and state.pt; where
    it holds a state of the same options and settings (JSON values: what else the result depends on), training goes on from
    there. One process ends the same to the bit as without the interruption. Under torchrun every process has its own batches
    and random numbers, gradients are averaged, and the first process's network is the result.

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
    start, sums = _resume(run, {"fit": to_json(options), **(settings or {})}, parts)
    trained = DistributedDataParallel(module, find_unused_parameters=True) if world > 1 else module
    module.train()
    clock = time.perf_counter()
    bar = tqdm(range(start, options.steps), initial=start, total=options.steps, unit="step", disable=not is_main_process(), mininterval=1.0)
    for step in bar:
        torch.manual_seed(step_seed(options.seed, step, rank))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * learning_rate_factor(step, options)
        with autocast(device, options.precision):
            value, metrics = loss(trained, TrainStep(step, step * world + rank, step / options.steps, ema.module))
        module.zero_grad(set_to_none=True)
        value.backward()
        metrics["loss"] = value.detach()
        metrics["gradient_norm"] = nn.utils.clip_grad_norm_(module.parameters(), options.clip)
        for optimizer in optimizers:
            optimizer.step()
        ema.update_parameters(module)
        now = time.perf_counter()
        metrics["seconds"], clock = now - clock, now
        for name, metric in metrics.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + metric
        done = step + 1
        if done % options.log_every == 0 and is_main_process():
            means = {name: round(float(total) / options.log_every, 6) for name, total in sums.items()}
            bar.set_postfix(loss=f"{means['loss']:.4f}")
            with open(run / "metrics.jsonl", "a") as file:
                file.write(json.dumps({"step": done, **means}) + "\n")
        if done % options.log_every == 0:
            sums = {}
        if (done % options.save_every == 0 or done == options.steps) and is_main_process():
            save_tensors(run / "state.pt", {"step": done, "sums": sums, **{k: v.state_dict() for k, v in parts.items()}})
            on_save(ema.module)
            clock = time.perf_counter()
    if world > 1:
        dist.barrier()  # nobody leaves while the first process still writes
        dist.destroy_process_group()
    return ema.module


def _resume(run: Path, settings: Mapping[str, Any], parts: dict[str, Any]) -> tuple[int, dict[str, Tensor]]:
    """Restore the parts from run/state.pt; return the steps done and the metrics summed since the last line."""
    run.mkdir(parents=True, exist_ok=True)
    config, metrics, state = run / "options.json", run / "metrics.jsonl", run / "state.pt"
    if not state.exists():
        if is_main_process():
            config.write_text(json.dumps(settings, indent=1) + "\n")
            metrics.write_text("")
        return 0, {}
    if json.loads(config.read_text()) != settings:
        raise UserError(f"{run}: holds a run with other options (see {config.name}); give the same ones, or another --run folder")
    content = load_tensors(state)
    for name, part in parts.items():
        part.load_state_dict(content[name])
    if is_main_process():  # drop the lines after the state, the last of which may be half a line
        lines = metrics.read_text().splitlines(keepends=True)[: content["step"] // settings["fit"]["log_every"]]
        metrics.write_text("".join(lines))
    device = next(parts["module"].parameters()).device
    return content["step"], {name: total.to(device) for name, total in content["sums"].items()}
