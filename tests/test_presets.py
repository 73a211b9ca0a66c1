"""Presets are command lines, and those of released weights say how these were trained."""

import importlib

import pytest

from common.checkpoint import CHECKPOINTS, load_weights
from common.cli import UserError
from common.config import parse_options, to_json

CHOSEN_PER_RUN = {"seed", "save_every", "log_every", "guide_widths", "head_interval"}
DANN_ALONE = {"lambda_max": 1.0, "entropy": 0.0, "balance": 0.0, "pseudo": 0.0}
DANN_ALONE |= {"domain_statistics": True, "discriminator_rate": 0.25}


def parsed(monkeypatch, package, *presets):
    """The configs that presets stand for, as JSON by the name of their class."""
    train, found = importlib.import_module(f"{package}.train"), {}

    def parse_and_stop(parser, argv, *config_classes):
        _, *configs = parse_options(parser, argv, *config_classes)
        found.update({type(config).__name__: to_json(config) for config in configs})
        raise UserError("stopped")

    monkeypatch.setattr(train, "parse_options", parse_and_stop)
    files = [f"@{CHECKPOINTS.parent / package / 'presets' / preset}.txt" for preset in presets]
    assert train.main([*files, "--data", "data", "--run-dir", "run"]) == 2
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
    metadata, pairs = weights.metadata.get("init", weights.metadata), [(options[config], weights.config)]
    pairs += [(options["TrainOptions"], metadata["train"]), (options["FitOptions"], metadata["fit"])]
    if "ObjectiveOptions" in options:
        pairs.append((options["ObjectiveOptions"], metadata.get("objective", metadata["train"])))
    for given, saved in pairs:
        assert_shared(given, saved)


def assert_shared(given, saved):
    """Weights lack the options that came after them."""
    shared = (set(given) & set(saved)) - CHOSEN_PER_RUN
    assert shared and {key: given[key] for key in shared} == {key: saved[key] for key in shared}


@pytest.mark.parametrize("part, presets", [("guide", ("mnistm", "guide")), ("head", ("distill",))])
def test_a_part_of_the_digits_network_is_trained_as_its_preset_says(monkeypatch, part, presets):
    weights, options = load_weights(CHECKPOINTS / "p1_mnistm.pt"), parsed(monkeypatch, "p1_cond_ddpm", *presets)
    if part == "guide":
        assert tuple(options["UNetConfig"]["widths"]) == tuple(weights.config["guide_widths"])
    for kind, section in (("TrainOptions", "train"), ("FitOptions", "fit")):
        assert_shared(options[kind], weights.metadata[part][section])


def test_every_preset_is_a_command_line(monkeypatch):
    for path in CHECKPOINTS.parent.glob("*/presets/*.txt"):
        assert "FitOptions" in parsed(monkeypatch, path.parts[-3], path.stem)


@pytest.mark.parametrize(
    "preset, changed",
    [
        ("source", {"mode": "source"}),
        ("target", {"mode": "target"}),
        ("dann_alone", DANN_ALONE),
        ("no_reversal", {"lambda_max": 0.0}),
        ("no_pseudo", {"pseudo": 0.0}),
        ("no_entropy", {"entropy": 0.0, "balance": 0.0}),
        ("no_instance_norm", {"instance_norm": False}),
    ],
)
def test_a_preset_of_the_ablation_changes_what_it_says(monkeypatch, preset, changed):
    whole, part = (parsed(monkeypatch, "p3_dann", *presets) for presets in (["svhn"], ["svhn", preset]))
    assert whole.keys() == part.keys()
    different = {
        name: part[kind][name] for kind in whole for name in whole[kind] if part[kind][name] != whole[kind][name]
    }
    assert different == changed


def test_the_public_preset_has_the_published_settings(monkeypatch):
    options = parsed(monkeypatch, "p1_cond_ddpm", "mnist_public")
    assert (options["UNetConfig"]["schedule"], options["UNetConfig"]["num_timesteps"]) == ("linear", 830)
    fit = options["FitOptions"]
    assert (fit["optimizer"], fit["learning_rate"], fit["clip"], fit["ema_decay"]) == ("adamw", 2e-4, 1.0, 0.999)
    assert fit["steps"] * options["TrainOptions"]["batch_size"] // 60_000 == 174
