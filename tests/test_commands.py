"""Every module is a command, whose --help explains each option, or a library that nothing tells one to run."""

import argparse
import ast
import importlib
import re

import pytest

from common.files import REPOSITORY

PACKAGES = ("common", "p1_cond_ddpm", "p2_ddim", "p3_dann", "homework", "benchmarks")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).glob("*.py"))
COMMANDS = [path for path in FILES if "if __name__ ==" in path.read_text(encoding="utf-8")]
TRAININGS = ("p1_cond_ddpm", "p2_ddim", "p3_dann")


def module_of(path):
    return f"{path.parent.name}.{path.stem}"


def help_of(module, capsys):
    """(its parsers, what --help prints)."""
    parsers, keep = [], argparse.ArgumentParser.parse_known_args

    def parse(parser, *arguments, **options):
        parsers.append(parser)
        return keep(parser, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        importlib.import_module(module).main(["--help"])
    assert end.value.code == 0
    below = [action for action in parsers[0]._actions if isinstance(action, argparse._SubParsersAction)]
    return [*parsers, *(parser for action in below for parser in action.choices.values())], capsys.readouterr().out


@pytest.mark.parametrize("module", [module_of(path) for path in COMMANDS])
def test_help_explains_every_option_and_names_groups_by_what_they_set(module, capsys):
    parsers, _ = help_of(module, capsys)
    for parser in parsers:
        assert not [action.dest for action in parser._actions if not action.help]
        assert not [group.title for group in parser._action_groups if re.search("[a-z][A-Z]", group.title)]


@pytest.mark.parametrize("package", TRAININGS)
def test_help_of_a_training_names_its_presets(package, capsys):
    text = "".join(help_of(f"{package}.{path.stem}", capsys)[1] for path in (REPOSITORY / package).glob("train*.py"))
    presets = [path.stem for path in (REPOSITORY / package / "presets").iterdir()]
    assert not [name for name in presets if not re.search(rf"\b{name}\b", text)]


def test_what_has_a_main_runs_it_and_nothing_else_is_said_to_be_run():
    has_main = [
        path
        for path in FILES
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(path.read_bytes()).body)
    ]
    assert has_main == COMMANDS
    texts = [*FILES, *REPOSITORY.glob("*.md"), *REPOSITORY.glob("*.sh"), *REPOSITORY.glob("*/*.md")]
    named = {name for path in texts for name in re.findall(r"-m ([\w.]+)", path.read_text(encoding="utf-8"))}
    ours = {name for name in named if name.split(".")[0] in PACKAGES}
    assert ours - {module_of(path) for path in COMMANDS} == set()
