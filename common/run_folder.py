"""A run folder: what a training was asked (options.json), said (metrics.jsonl) and where it goes on (state.pt).

machines.jsonl has a line for every start: the device, the versions and the commit, which a resume doesn't compare.

before_cooldown.pt is the state before the learning rate began to fall. From there a run can be made longer.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.checkpoint import load_tensors, save_tensors
from common.cli import UserError
from common.files import atomic_write, make_folder

NOT_OPTIONS = {"fingerprint": "data", "world_size": "processes", "computed_in": "computed in"}  # and how to call them
State = dict[str, Any]  # "step" is the number of steps done
Settings = Mapping[str, Mapping[str, Any]]  # JSON values by section and name; what a run's result depends on


class RunFolder:
    """Of several processes that train together, only the first has one."""

    def __init__(self, path: Path):
        self.path = path
        self.options, self.metrics = path / "options.json", path / "metrics.jsonl"
        self.machines = path / "machines.jsonl"
        self.state, self.before_cooldown = path / "state.pt", path / "before_cooldown.pt"

    def resume(self, settings: Settings, constant_steps: Callable[[int], int]) -> State | None:
        """The state to go on from, or None where the folder is new; nothing is written yet (see `begin`).

        The settings must be those of the folder, but settings["fit"]["steps"] may change. The state is then one of the
        steps whose learning rate is the same for both lengths: the first `constant_steps(length)` of each. So it is
        where state.pt is gone and before_cooldown.pt is there.

        Raises:
            UserError: other settings, a damaged folder, or no state from which the new number of steps can be reached.
        """
        if not self.state.exists() and not self.before_cooldown.exists():
            self._check_new(settings, constant_steps)
            return None
        saved = read_settings(self.options)
        if different := differences(saved, settings):
            words = "; ".join(different)
            raise UserError(f"{self.path}: a run with other options: {words}. Give the same ones or another --run-dir")
        old, new = saved["fit"]["steps"], settings["fit"]["steps"]
        if self._goes_on(settings):
            return self._load(self.state, old)
        usable, found = min(constant_steps(old), constant_steps(new)), []
        for path in (self.state, self.before_cooldown):
            if not path.exists():
                continue
            state = self._load(path, old)
            if state["step"] <= usable:
                return state
            found.append(str(state["step"]))
        raise UserError(
            f"{self.path}: this run of {old} steps can't become one of {new}. It has the states after step "
            f"{' and '.join(found)}, and one after step {usable} or earlier is needed. "
            f"Give --steps {old} or another --run-dir"
        )

    def begin(self, settings: Settings, state: State | None) -> None:
        """Write the settings, and cut the metrics to the state, which becomes state.pt."""
        make_folder(self.path)
        # In this order: whenever it is interrupted, options and state fit together.
        if state and not self._goes_on(settings):
            save_tensors(self.state, state)
        self._write(self.options, json.dumps(settings, indent=1) + "\n")
        kept = state["step"] // settings["fit"]["log_every"] if state else 0
        self._write(self.metrics, "".join(self._lines()[:kept]))  # the last line may be half a one

    def _goes_on(self, settings: Settings) -> bool:
        """Whether state.pt is of a run of the same length."""
        return self.state.exists() and read_settings(self.options)["fit"]["steps"] == settings["fit"]["steps"]

    def _check_new(self, settings: Settings, constant_steps: Callable[[int], int]) -> None:
        """Raise UserError where a run has been that must have had a state; one stopped before its first starts over."""
        fit = settings["fit"]
        logged, weights = len(self._lines()) * fit["log_every"], self.path / "weights.pt"
        if weights.exists() or logged > min(fit["save_every"], constant_steps(fit["steps"])):
            raise UserError(
                f"{self.path}: a run that can't go on, since state.pt is lost; a new one would replace its metrics and "
                "weights. Put state.pt back, give another --run-dir, or remove the folder to start over"
            )

    def _lines(self) -> list[str]:
        if not self.metrics.exists():
            return []
        return self.metrics.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)

    def _load(self, path: Path, steps: int) -> State:
        state = load_tensors(path)
        step = state.get("step") if isinstance(state, dict) else None
        if not isinstance(step, int) or not 0 < step <= steps:
            raise UserError(f"{path}: not the state of a training of {steps} steps; give another --run-dir")
        return state

    def state_files(self, *, before_cooldown: bool) -> list[Path]:
        """Where a state is written: apart, too, where it is the last one before the learning rate falls."""
        return [self.before_cooldown, self.state] if before_cooldown else [self.state]

    def note_machine(self, machine: Mapping[str, Any]) -> None:
        """Append what the training now runs on."""
        append_line(self.machines, json.dumps(machine))

    def log(self, line: Mapping[str, float]) -> None:
        """Append a line of metrics; what is not finite becomes null."""
        valid = {name: value if math.isfinite(value) else None for name, value in line.items()}
        append_line(self.metrics, json.dumps(valid))

    def _write(self, path: Path, text: str) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def append_line(path: Path, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """The settings of a run. Raises UserError where the file is missing or damaged."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        steps = settings["fit"]["steps"]
        if not isinstance(steps, int) or not all(isinstance(section, dict) for section in settings.values()):
            raise ValueError("not the options of a training")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not readable as a run's options ({error}); give another --run-dir") from None
    return settings


def differences(saved: Settings, settings: Settings) -> list[str]:
    """In words, which settings differ but for the number of steps: "--seed 0 there, --seed 1 here"."""
    words = []
    for section in sorted({*saved, *settings}):
        there, here = saved.get(section, {}), settings.get(section, {})
        for name in sorted({*there, *here} - ({"steps"} if section == "fit" else set())):
            if there.get(name) != here.get(name):
                words.append(f"{as_typed(name, there.get(name))} there, {as_typed(name, here.get(name))} here")
    return words


def as_typed(name: str, value: Any) -> str:
    """An option as the command line has it; what is none by its name."""
    if name in NOT_OPTIONS:
        return f"{NOT_OPTIONS[name]} {value}"
    flag = name.replace("_", "-")
    if value is None:
        return f"no --{flag}"
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {' '.join(map(str, value)) if isinstance(value, list) else str(value)[:16]}"
