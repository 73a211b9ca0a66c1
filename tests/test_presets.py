"""Presets are command lines, and those of released weights say how these were trained."""
import importlib

import pytest

from common.checkpoint import load_weights
from common.cli import UserError
from common.config import parse_options, to_json
from common.download import CHECKPOINTS

CHOSEN_PER_RUN = {"seed", "save_every", "log_every"}


def parsed(monkeypatch, package, preset):
    """The configs that a preset stands for, as JSON by the name of their class."""
    train, found = importlib.import_module(f"{package}.train"), {}

    def parse_and_stop(parser, argv, *config_classes):
        _, *configs = parse_options(parser, argv, *config_classes)
        found.update({type(config).__name__: to_json(config) for config in configs})
        raise UserError("stopped")

    monkeypatch.setattr(train, "parse_options", parse_and_stop)
    assert train.main([f"@{CHECKPOINTS.parent / package / 'presets' / preset}.txt", "--data", "data", "--run-dir", "run"]) == 2
    return found


@pytest.mark.parametrize(
    "package, preset, name, config",
    [
        ("p1_cond_ddpm", "mnistm", "p1_mnistm", "UNetConfig"),
        ("p2_ddim", "celeba32", "p2_celeba32", "FaceUNetConfig"),
        ("p3_dann", "svhn", "p3_svhn", "NetworkConfig"),
        ("p3_dann", "usps", "p3_usps", "NetworkConfig"),
    ],
)
def test_a_preset_is_the_recipe_of_its_weights(monkeypatch, package, preset, name, config):
    weights, options = load_weights(CHECKPOINTS / f"{name}.pt"), parsed(monkeypatch, package, preset)
    for given, saved in (
        (options[config], weights.config),
        (options["TrainOptions"], weights.metadata["train"]),
        (options["FitOptions"], weights.metadata["fit"]),
    ):
        shared = (set(given) & set(saved)) - CHOSEN_PER_RUN
        assert shared and {key: given[key] for key in shared} == {key: saved[key] for key in shared}


def test_every_preset_is_a_command_line(monkeypatch):
    for path in CHECKPOINTS.parent.glob("*/presets/*.txt"):
        assert "FitOptions" in parsed(monkeypatch, path.parts[-3], path.stem)
    modes = {mode: parsed(monkeypatch, "p3_dann", mode)["TrainOptions"]["mode"] for mode in ("source", "target")}
    assert modes == {"source": "source", "target": "target"}


def test_the_public_preset_has_the_published_settings(monkeypatch):
    options = parsed(monkeypatch, "p1_cond_ddpm", "mnist_public")
    assert (options["UNetConfig"]["schedule"], options["UNetConfig"]["num_timesteps"]) == ("linear", 830)
    fit = options["FitOptions"]
    assert (fit["optimizer"], fit["learning_rate"], fit["clip"], fit["ema_decay"]) == ("adamw", 2e-4, 1.0, 0.999)
    assert fit["steps"] * options["TrainOptions"]["batch_size"] // 60_000 == 174
