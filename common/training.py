"""One training loop for all networks: EMA, resumable to the bit, metrics, one or many processes (torchrun)."""

import argparse
import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from common.checkpoint import save_tensors
from common.cli import Stopped, UserError, add_device, signals_noted, some_path
from common.config import PresetParser, to_json
from common.device import autocast, describe_machine, make_scaler, training_precision
from common.optimisers import Average, FitOptions, check_memory, constant_steps, learning_rate_factor, make_optimizers
from common.processes import alone_in, disconnect, from_first, meet, place
from common.progress import Events, draw_progress
from common.rng import step_seed
from common.run_folder import RunFolder, Settings, State


class TrainStep(NamedTuple):
    """What a loss may depend on besides the network."""

    step: int
    batch: int  # number of this process's batch: no other step of any process has it
    ema: nn.Module  # the averaged network, e.g. as a teacher; not to be trained


Loss = Callable[[nn.Module, TrainStep], tuple[Tensor, dict[str, float | Tensor]]]


def training_parser(description: str | None, *, data: str) -> argparse.ArgumentParser:
    """The options that every training command has; `data` is the help text of --data."""
    parser = PresetParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=some_path, required=True, help=data)
    parser.add_argument(
        "--run-dir", type=some_path, required=True, help="folder for metrics, state and weights.pt; resumes by itself"
    )
    add_device(parser)
    return parser


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


def fit(
    loss: Loss,
    module: nn.Module,
    options: FitOptions,
    run: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    rates: Mapping[str, float] | None = None,
    preview: Callable[[nn.Module], Tensor] | None = None,
) -> nn.Module:
    """Train `module` in place and return its averaged copy. `rates` is that of `make_optimizers`.

    `run` gets options.json, metrics.jsonl (means over log_every steps, the seconds a step took among them), state.pt
    and before_cooldown.pt. Whenever the state is saved, curves.png is drawn, and what `preview` makes of the averaged
    network, (N, 3, H, W) uint8. Where `run` holds a state of the same options and settings (JSON values: what else the
    result depends on), training goes on from there, also to another number of steps. One process ends the same to the
    bit as without the interruption, and as with the final number of steps from the start. Under torchrun every process
    has its own batches and random numbers, gradients are averaged, and the first process's network is the result.

    Raises:
        UserError: the run folder holds a run with other options, or a number is not finite; the last state stays.
        Stopped: SIGINT or SIGTERM came; the state is saved.
    """
    training = Training(loss, module, options, RunFolder(run), rates)
    machine = {"world_size": training.world, "computed_in": training.precision}
    settings = {"fit": to_json(options), **(settings or {}), "machine": machine}
    with alone_in(run, wait=False), training.begin(settings) as bar, signals_noted() as signals:
        for step in bar:
            training.step(step)
            done = step + 1
            last, stop = done == options.steps, training.agreed(signals, done)
            if done % options.log_every == 0:
                bar.set_postfix(loss=f"{training.log(done):.4f}")
            due = done % options.save_every == 0 or done == constant_steps(options) or last
            if due or stop:
                training.check_weights(done)
                if training.rank == 0:  # drawn before the state is saved: what is killed here is drawn again
                    draw_progress(run, done, partial(preview, training.ema.module) if preview and due else None)
                    training.save(done)
                    training.clock = time.perf_counter()
            if stop := stop or (training.agreed(signals, done) if last else 0):
                training.leave()
                said = f"{run}: saved after step {done} of {options.steps}; the same command goes on from there"
                raise Stopped(stop, said if training.rank == 0 else "")
    training.leave()
    disconnect()
    return training.ema.module


class Training:
    """What changes from step to step: weights, their average, the optimisers' memory, and metrics since the last line.

    Within a step nothing waits for the device but fp16's scaler: numbers are read when a line is logged or a state
    saved.
    """

    def __init__(
        self,
        loss: Loss,
        module: nn.Module,
        options: FitOptions,
        folder: RunFolder,
        rates: Mapping[str, float] | None = None,
    ):
        self.loss, self.module, self.options, self.folder = loss, module, options, folder
        self.rank, self.world, _ = place()
        self.device = next(module.parameters()).device
        meet("nccl" if self.device.type == "cuda" else "gloo")
        self.trained = DistributedDataParallel(module, find_unused_parameters=True) if self.world > 1 else module
        self.ema, self.optimizers = Average(module, options.ema_decay), make_optimizers(module, options, rates)
        self.precision = training_precision(self.device, options.precision)
        self.scaler = make_scaler(self.precision)
        self.start = self.saved = 0  # steps done before, and up to the last state
        self.sums: dict[str, Tensor] = {}
        self.finite = torch.zeros((), dtype=torch.int64, device=self.device)  # steps since the start, up to a bad one
        self.clock = time.perf_counter()

    @property
    def parts(self) -> dict[str, Any]:
        """What a state holds, by name."""
        scaler = {"scaler": self.scaler} if self.scaler.is_enabled() else {}
        return {"module": self.module, "ema": self.ema, **{type(o).__name__: o for o in self.optimizers}, **scaler}

    def begin(self, settings: Settings) -> tqdm:
        """A progress bar over the steps to go. They go on from the folder's state, if it has one, which is said.

        Raises UserError where the state doesn't fit.

        The first process reads it and hands it to the others, whose machines need not have the folder. The folder stays
        as it is until the state has been found to fit.
        """
        state = from_first(lambda: self.folder.resume(settings, self.constant_steps))
        if state is not None:
            self._load(state)
        if self.rank == 0:
            self.folder.begin(settings, state)
            self.folder.note_machine(describe_machine(self.device))
            self.events = Events(self.folder.path, done=self.start)
        self.module.train()
        steps, quiet, total = range(self.start, self.options.steps), self.rank > 0, self.options.steps
        return tqdm(steps, initial=self.start, total=total, unit="step", disable=quiet, mininterval=1.0)

    def constant_steps(self, steps: int) -> int:
        """After how many steps the learning rate begins to fall where there are `steps` in all."""
        return constant_steps(replace(self.options, steps=steps))

    def _load(self, state: State) -> None:
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            for optimizer in self.optimizers:
                check_memory(optimizer)
            sums = dict(**state["sums"])  # whose names are strings
            self.sums = {name: total.to(self.device).reshape(()) for name, total in sums.items()}
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = f"a state of another version or network ({str(error).splitlines()[0]})"
            raise UserError(f"{self.folder.path}: {reason}; give another --run-dir") from None
        self.start = self.saved = state["step"]
        if self.rank == 0:
            where = f"goes on after step {self.start} of {self.options.steps}"
            done = f"finished, all {self.options.steps} steps; nothing is left to train"
            print(f"{self.folder.path}: {where if self.start < self.options.steps else done}", file=sys.stderr)

    def learning_rate(self, step: int) -> float:
        return self.options.learning_rate * learning_rate_factor(step, self.options)

    def step(self, step: int) -> None:
        """One batch: loss, gradient, update, average."""
        options = self.options
        torch.manual_seed(step_seed(options.seed, step, self.rank))
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.learning_rate(step) * group.get("rate", 1.0)
        with autocast(self.device, self.precision):
            value, metrics = self.loss(self.trained, TrainStep(step, step * self.world + self.rank, self.ema.module))
        self.module.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), options.clip or math.inf)
        must_be_finite = value.detach() if self.scaler.is_enabled() else value.detach() + norm
        self.finite += torch.isfinite(must_be_finite) & (self.finite == step - self.start)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.ema.update(self.module)
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        for name, metric in {**metrics, "loss": value.detach(), "gradient_norm": norm, "seconds": seconds}.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=self.device)) + metric

    def log(self, done: int) -> float:
        """Write a line of means since the last one; the mean loss."""
        self.check_finite(done, [])
        means = {name: float(total) / self.options.log_every for name, total in self.sums.items()}
        if self.rank == 0:
            line = {**means, "learning_rate": self.learning_rate(done - 1)}
            short = {name: float(f"{value:.6g}") for name, value in line.items()}
            self.folder.log({"step": done, **short})
            self.events.log(done, short)
        self.sums = {}
        return means["loss"]

    def check_weights(self, done: int) -> None:
        self.check_finite(done, [*self.module.parameters(), *self.ema.module.parameters()])

    def save(self, done: int) -> None:
        logged = {"sums": self.sums, "metrics": self.folder.metrics_sum()}
        state = {"step": done, **logged, **{name: part.state_dict() for name, part in self.parts.items()}}
        for file in self.folder.state_files(before_cooldown=done == constant_steps(self.options)):
            save_tensors(file, state)
        self.saved = done

    def check_finite(self, done: int, weights: Iterable[Tensor]) -> None:
        """Raise UserError unless loss and gradient of all `done` steps, and the weights, are finite."""
        good = self.start + int(self.finite)
        if self.scaler.get_scale() < 1:  # halved at every overflow, so not one of fp16 any more
            good = min(good, done - 1)
        if good == done and all(bool(weight.isfinite().all()) for weight in weights):
            return
        what = f"loss or gradient of step {good + 1}" if good < done else f"a weight after step {done}"
        rate = self.learning_rate(min(good, done - 1))
        kept = f"the state after step {self.saved} is kept; give another --run-dir and"
        raise UserError(
            f"{self.folder.path}: {what} is not finite, at learning rate {rate:.3g}; "
            f"{kept if self.saved else 'no state was saved; give'} a lower --learning-rate"
        )

    def agreed(self, signals: list[int], done: int) -> int:
        """The signal that came to any of the processes, 0 for none: all stop after the same step."""
        number = signals[0] if signals else 0
        if self.world == 1:
            return number
        if self.device.type == "cuda" and done % self.options.log_every and done < self.options.steps:
            return 0  # GPUs ask each other when they log
        agreed = torch.tensor(number, device=self.device)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return int(agreed)

    def leave(self) -> None:
        """Wait for the others: torchrun ends all processes as soon as one has left, the one that writes included."""
        if self.world > 1:
            dist.barrier()
