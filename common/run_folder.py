"""A run folder: what a training was asked (options.json), what it reported (metrics.jsonl) and where it goes on
(state.pt).

before_cooldown.pt is the state before the learning rate began to fall. From there a run can be made longer.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.checkpoint import load_tensors, save_tensors
from common.cli import UserError
from common.files import atomic_write

State = dict[str, Any]  # "step" is the number of steps done
Settings = Mapping[str, Mapping[str, Any]]  # JSON values by section and name; what a run's result depends on


class RunFolder:
    def __init__(self, path: Path, *, writes: bool = True):
        """`writes` is False in all processes but one of several that train together."""
        self.path, self.writes = path, writes
        self.options, self.metrics = path / "options.json", path / "metrics.jsonl"
        self.state, self.before_cooldown = path / "state.pt", path / "before_cooldown.pt"

    def resume(self, settings: Settings, steps_before_cooldown: Callable[[int], int]) -> State | None:
        """The state to go on from, or None where the folder is new.

        The settings must be those of the folder, except that settings["fit"]["steps"] may change: then the state is one
        of before the cooldown, both of the old number of steps and of the new one (`steps_before_cooldown`).

        Raises:
            UserError: other settings, or no state from which the new number of steps can be reached.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.state.exists():
            self._write(self.options, json.dumps(settings, indent=1) + "\n")
            self._write(self.metrics, "")
            return None
        saved = json.loads(self.options.read_text())
        if different := differences(saved, settings):
            words = "; ".join(different)
            raise UserError(
                f"{self.path}: holds a run with other options ({words}); give the same, or another --run-dir"
            )
        if saved["fit"]["steps"] == settings["fit"]["steps"]:
            state = load_tensors(self.state)
        else:
            state = self._change_steps(saved, settings, steps_before_cooldown)
        lines = self.metrics.read_text().splitlines(keepends=True)[: state["step"] // settings["fit"]["log_every"]]
        self._write(
            self.metrics, "".join(lines)
        )  # without the lines after the state, the last of which may be half a line
        return state

    def _change_steps(self, saved: Settings, settings: Settings, steps_before_cooldown: Callable[[int], int]) -> State:
        old, new = saved["fit"]["steps"], settings["fit"]["steps"]
        usable = min(steps_before_cooldown(old), steps_before_cooldown(new))
        states = [load_tensors(path) for path in (self.state, self.before_cooldown) if path.exists()]
        found = [state for state in states if state["step"] <= usable]
        if not found:
            kept = ", ".join(str(state["step"]) for state in states)
            raise UserError(
                f"{self.path}: a run of {old} steps that can't become one of {new}: its states are of step {kept}, "
                f"and the learning rate falls from step {usable}; give --steps {old}, or another --run-dir"
            )
        if self.writes:  # in this order: whenever it is interrupted, options and state fit together
            save_tensors(self.state, found[0])
        self._write(self.options, json.dumps(settings, indent=1) + "\n")
        return found[0]

    def save(self, state: State, *, before_cooldown: bool) -> None:
        """Write the state, and keep it apart where it is the last one before the learning rate falls."""
        if self.writes and before_cooldown:
            save_tensors(self.before_cooldown, state)
        if self.writes:
            save_tensors(self.state, state)

    def log(self, line: Mapping[str, float]) -> None:
        if self.writes:
            with open(self.metrics, "a") as file:
                file.write(json.dumps(line) + "\n")

    def _write(self, path: Path, text: str) -> None:
        if self.writes:
            with atomic_write(path) as temporary:
                temporary.write_text(text)


def differences(saved: Settings, settings: Settings) -> list[str]:
    """In words, which settings differ but for the number of steps: "--seed 0 there, 1 here"."""
    words = []
    for section in sorted({*saved, *settings}):
        there, here = saved.get(section, {}), settings.get(section, {})
        for name in sorted({*there, *here} - ({"steps"} if section == "fit" else set())):
            if there.get(name) != here.get(name):
                option = "data" if section == "data" else "--" + name.replace("_", "-")
                words.append(f"{option} {there.get(name, 'unknown')} there, {here.get(name, 'unknown')} here")
    return words
