"""One training loop for all networks: EMA, resumable to the bit, metrics, one or many processes (torchrun)."""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from common.checkpoint import save_tensors
from common.cli import Stopped, UserError, signals_noted, some_path
from common.config import option, to_json
from common.device import autocast
from common.muon import Muon
from common.rng import step_seed
from common.run_folder import RunFolder, State


@dataclass(frozen=True)
class FitOptions:
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
    ema: nn.Module  # the averaged network, e.g. as a teacher; not to be trained


Loss = Callable[[nn.Module, TrainStep], tuple[Tensor, dict[str, float | Tensor]]]


class PresetParser(argparse.ArgumentParser):
    """In a file of arguments, blank lines and comments (#) are skipped, and blanks around an argument."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        argument = arg_line.strip()
        return [] if not argument or argument.startswith("#") else [argument]


def training_parser(description: str | None, *, data: str) -> argparse.ArgumentParser:
    """The options that every training command has; `data` is the help text of --data.

    @FILE stands for the arguments in it, one a line.
    """
    parser = PresetParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars="@"
    )
    parser.add_argument("--data", type=some_path, required=True, help=data)
    parser.add_argument(
        "--run-dir", type=some_path, required=True, help="folder for metrics, state and weights.pt; resumes by itself"
    )
    parser.add_argument("--device", default="auto")
    return parser


def cooldown_steps(options: FitOptions) -> int:
    return max(round(options.steps * options.cooldown), 1)


def learning_rate_factor(step: int, options: FitOptions) -> float:
    """Linear warm-up, constant, linear decay: trapezoid in 0..1."""
    up = (step + 1) / max(options.warmup, 1)
    down = (options.steps - step) / cooldown_steps(options)
    return min(1.0, up, down)


def constant_steps(options: FitOptions) -> int:
    """After how many steps the learning rate begins to fall; until then it doesn't depend on `options.steps`."""
    return options.steps - cooldown_steps(options) + 1


def make_optimizers(module: nn.Module, options: FitOptions) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon before it where asked for.

    Muon gets the hidden matrices: two or more dimensions and more than 16 inputs and outputs, which leaves out
    embeddings, output layers of few channels, biases and gains. Only matrices and kernels decay: a smaller gain, bias
    or embedding is no simpler.
    """
    embeddings = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}
    hidden, matrices, vectors = [], [], []
    for p in module.parameters():
        if p.ndim < 2 or p in embeddings:
            vectors.append(p)
        elif options.optimizer == "muon" and min(p.flatten(1).shape) > 16:
            hidden.append(p)
        else:
            matrices.append(p)
    adamw = [
        {"params": some, "weight_decay": decay}
        for some, decay in ((matrices, options.weight_decay), (vectors, 0.0))
        if some
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        optimizers.append(Muon(hidden, options.learning_rate, weight_decay=options.weight_decay))
    if adamw:
        optimizers.append(torch.optim.AdamW(adamw, lr=options.learning_rate))
    return optimizers


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """EMA of parameters and buffers; the decay starts at (1 + n) / (10 + n): the random start fades quickly."""

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


def check_batch_size(batch_size: int, count: int) -> None:
    """Raise UserError where a data set of `count` images has no batch of that size."""
    if batch_size > count:
        raise UserError(f"--batch-size {batch_size}: the data set has {count} images; give at most as many")


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

    `run` gets options.json, metrics.jsonl (means over log_every steps, the seconds a step took among them), state.pt
    and before_cooldown.pt; where it holds a state of the same options and settings (JSON values: what else the result
    depends on), training goes on from there, also to another number of steps. One process ends the same to the bit as
    without the interruption, and as with the final number of steps from the start. Under torchrun every process has its
    own batches and random numbers, gradients are averaged, and the first process's network is the result.

    Raises:
        UserError: the run folder holds a run with other options, or a loss or gradient is not finite; the last state
        stays. Stopped: SIGINT or SIGTERM came, and the state is saved.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = next(module.parameters()).device
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    ema = averaged(module, options.ema_decay)
    optimizers = make_optimizers(module, options)
    parts: dict[str, Any] = {"module": module, "ema": ema} | {
        type(optimizer).__name__: optimizer for optimizer in optimizers
    }
    folder = RunFolder(run, writes=is_main_process())
    asked = {"fit": to_json(options), **(settings or {}), "processes": {"world_size": world}}
    state = folder.resume(asked, lambda steps: constant_steps(replace(options, steps=steps)))
    start, sums = _restore(state, parts, run, device)
    _report_start(run, start, options.steps)
    saved = start
    trained = DistributedDataParallel(module, find_unused_parameters=True) if world > 1 else module
    module.train()
    clock = time.perf_counter()
    finite = torch.zeros(
        (), dtype=torch.int64, device=device
    )  # steps from the start on whose loss and gradient are finite
    bar = tqdm(
        range(start, options.steps),
        initial=start,
        total=options.steps,
        unit="step",
        disable=not folder.writes,
        mininterval=1.0,
    )
    with signals_noted() as signals:
        for step in bar:
            torch.manual_seed(step_seed(options.seed, step, rank))
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = options.learning_rate * learning_rate_factor(step, options)
            with autocast(device, options.precision):
                value, metrics = loss(trained, TrainStep(step, step * world + rank, ema.module))
            module.zero_grad(set_to_none=True)
            value.backward()
            gradient_norm = nn.utils.clip_grad_norm_(module.parameters(), options.clip)
            metrics |= {"loss": value.detach(), "gradient_norm": gradient_norm}
            finite += torch.isfinite(value.detach() + gradient_norm) & (finite == step - start)
            for optimizer in optimizers:
                optimizer.step()
            ema.update_parameters(module)
            now = time.perf_counter()
            metrics["seconds"], clock = now - clock, now
            for name, metric in metrics.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + metric
            done = step + 1
            logs, stops = done % options.log_every == 0, _agreed(signals, device, world)
            saves = done % options.save_every == 0 or done in (constant_steps(options), options.steps) or stops
            if logs or saves:
                weights = [*module.parameters(), *ema.parameters()] if saves else []
                _check_finite(start + int(finite), weights, done=done, saved=saved, options=options, run=run)
            if logs:
                means = {name: round(float(total) / options.log_every, 6) for name, total in sums.items()}
                bar.set_postfix(loss=f"{means['loss']:.4f}")
                folder.log({"step": done, **means})
                sums = {}
            if saves:
                state = {"step": done, "sums": sums, **{k: v.state_dict() for k, v in parts.items()}}
                for file in folder.state_files(before_cooldown=done == constant_steps(options)):
                    save_tensors(file, state)
                saved = done
            if saves and folder.writes and not stops:
                on_save(ema.module)
                clock = time.perf_counter()
            stops = stops or (_agreed(signals, device, world) if done == options.steps else 0)
            if stops:
                bar.close()
                if world > 1:
                    dist.barrier()  # torchrun ends all processes as soon as one has left
                said = f"{run}: saved after step {done} of {options.steps}; the same command goes on from there"
                raise Stopped(stops, said if folder.writes else "")
    if world > 1:
        dist.barrier()  # nobody leaves while the first process still writes
        dist.destroy_process_group()
    return ema.module


def _restore(
    state: State | None, parts: dict[str, Any], run: Path, device: torch.device
) -> tuple[int, dict[str, Tensor]]:
    """Load a state into the parts; return the steps done and the metrics summed since the last line."""
    if state is None:
        return 0, {}
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["step"], {name: total.to(device) for name, total in state["sums"].items()}
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run}: a state of another version or network ({reason}); give another --run-dir") from None


def _report_start(run: Path, start: int, steps: int) -> None:
    if start and is_main_process():
        finished = f"finished, all {steps} steps; nothing is left to train"
        print(f"{run}: " + (f"goes on after step {start} of {steps}" if start < steps else finished), file=sys.stderr)


def _agreed(signals: list[int], device: torch.device, world: int) -> int:
    """The signal that came to any of the processes, 0 for none. All stop after the same step."""
    number = signals[0] if signals else 0
    if world > 1:
        agreed = torch.tensor(number, device=device)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        number = int(agreed)
    return number


def _check_finite(
    good_steps: int, weights: Iterable[Tensor], *, done: int, saved: int, options: FitOptions, run: Path
) -> None:
    """Raise UserError unless loss and gradient of all `done` steps, and the weights, are finite."""
    if good_steps == done and all(bool(weight.isfinite().all()) for weight in weights):
        return
    what = f"loss or gradient of step {good_steps + 1}" if good_steps < done else f"a weight after step {done}"
    rate = options.learning_rate * learning_rate_factor(min(good_steps, done - 1), options)
    kept = f"the state after step {saved} is kept; give another --run-dir and" if saved else "no state was saved; give"
    raise UserError(f"{run}: {what} is not finite, at learning rate {rate:.3g}; {kept} a lower --learning-rate")
