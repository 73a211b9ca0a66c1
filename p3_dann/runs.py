"""What finished runs of problem 3 reached: read from their folders, and kept in a CSV when the folders are gone."""

import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common.checkpoint import weights_id
from common.cli import UserError
from common.config import PresetParser, parse_options, to_json
from common.measurements import Measurements, read_measurements
from common.run_folder import as_typed, read_settings
from p3_dann.train import OPTIONS, TARGETS

PRESETS = Path(__file__).parent / "presets"
WHOLE = "whole"  # the target's own preset, with nothing changed
NOT_COMPARED = {"seed", "save_every", "log_every", "steps"}  # seeds make a group, and steps have a column


@dataclass(frozen=True)
class Run:
    """One row of the CSV; runs that differ in name, seed, the machine's precision and results alone are a group."""

    weights: str
    run: str
    target: str
    preset: str  # follows the target's, WHOLE for none
    steps: int
    changes: str  # further options, as they are typed
    seed: int
    data: str  # the training images' fingerprint
    processes: int
    computed_in: str
    val_accuracy: float
    agreement: float
    minutes: float  # of the training steps, nan where nothing was logged

    @property
    def group(self) -> tuple[Any, ...]:
        """What the runs of one group have in common."""
        return self.target, self.preset, self.steps, self.changes, self.data, self.processes

    @property
    def title(self) -> str:
        """The preset and what else is changed."""
        return f"{self.preset}, {self.changes}" if self.changes else self.preset


@cache
def preset_options(*names: str) -> dict[str, Any]:
    """The options of presets that follow one another, without NOT_COMPARED."""
    _, *configs = parse_options(PresetParser(), [f"@{PRESETS / name}.txt" for name in names], *OPTIONS)
    options = {name: value for config in configs for name, value in to_json(config).items()}
    return {name: value for name, value in options.items() if name not in NOT_COMPARED}


def changed(options: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """The options that differ from the reference's, None where one is not there."""
    return {name: options.get(name) for name in reference if options.get(name) != reference[name]}


def recipe(options: dict[str, Any], target: str) -> tuple[str, str]:
    """The preset that explains most of how options differ from the target's own, and as typed what it does not."""
    whole = preset_options(target)
    found = changed(options, whole)
    best: str = WHOLE
    explained: dict[str, Any] = {}
    for path in sorted(PRESETS.glob("*.txt")):
        changes = changed(preset_options(target, path.stem), whole)
        if path.stem not in TARGETS and len(explained) < len(changes) and changes.items() <= found.items():
            best, explained = path.stem, changes
    rest = [as_typed(name, value) for name, value in found.items() if name not in explained]
    return best, " ".join(rest)


def minutes_of(metrics: Path, steps: int) -> float:
    """How long the training steps took by the log, but for pauses; nan where nothing was logged."""
    try:
        seconds = [json.loads(line)["seconds"] for line in metrics.read_text(encoding="utf-8").splitlines()]
        return float(np.median(seconds) * steps / 60) if seconds else math.nan
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{metrics}: not the metrics of a training ({error}); train again") from None


def read_run(path: Path) -> Run:
    """Raises UserError where the run isn't finished with the options that it has."""
    try:
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
        trained, accuracy, agreement = result["settings"], result["val_accuracy"] + 0.0, result["agreement"] + 0.0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: no result.json, or a damaged one; finish the run with p3_dann.train") from None
    settings = read_settings(path / "options.json")
    if trained != settings:
        raise UserError(f"{path}: result.json is from before its options changed; finish the run with p3_dann.train")
    options = {name: value for section in settings.values() for name, value in section.items()}
    try:
        target, steps, seed = options["target"], options["steps"], options["seed"]
        data, processes, computed_in = options["fingerprint"], options["world_size"], options["computed_in"]
        preset, changes = recipe(options, target)
    except (KeyError, TypeError, SystemExit):
        raise UserError(f"{path}: not a run of problem 3; give one of p3_dann.train") from None
    return Run(
        weights=weights_id(path / "weights.pt"),
        run=path.name,
        target=target,
        preset=preset,
        steps=steps,
        changes=changes,
        seed=seed,
        data=data,
        processes=processes,
        computed_in=computed_in,
        val_accuracy=accuracy,
        agreement=agreement,
        minutes=minutes_of(path / "metrics.jsonl", steps),
    )


class Results:
    """The CSV that keeps runs, a row each."""

    def __init__(self, path: Path):
        self.path, self.measurements = path, Measurements(path, order=["target", "preset", "steps", "seed"])

    def add(self, run: Run) -> None:
        """Nothing where it has the run."""
        if not self.measurements.has({"weights": run.weights, "run": run.run}):
            self.measurements.add(asdict(run))

    def runs(self) -> list[Run]:
        """Raises UserError where a row isn't one of a run."""
        table = read_measurements(self.path, [f.name for f in fields(Run)])
        table["changes"] = table["changes"].astype(object).fillna("")
        try:
            whole, real = dict.fromkeys(("steps", "seed", "processes"), int), ("val_accuracy", "agreement", "minutes")
            table = table.astype({**whole, **dict.fromkeys(real, float)})
            return [Run(**{f.name: row[f.name] for f in fields(Run)}) for row in table.to_dict("records")]
        except ValueError as error:
            raise UserError(f"{self.path}: not the CSV of runs ({error})") from None
