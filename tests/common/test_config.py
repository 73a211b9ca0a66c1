import argparse
import json
from dataclasses import dataclass

import pytest

from common.config import add_options, from_json, from_options, option, to_json


@dataclass(frozen=True)
class Example:
    rate: float = option(0.5, "a float")
    widths: tuple[int, ...] = option((1, 2), "a tuple")
    flag: bool = option(False, "a switch")
    kind: str = option("a", "a choice", choices=("a", "b"))


def parse(*words):
    parser = argparse.ArgumentParser()
    add_options(parser, Example)
    return from_options(Example, parser.parse_args(words))


def test_command_line_overrides_defaults():
    assert parse() == Example()
    assert parse("--rate", "2", "--widths", "3", "4", "5", "--flag", "--kind", "b") == Example(2.0, (3, 4, 5), True, "b")
    with pytest.raises(SystemExit):
        parse("--kind", "c")


def test_json_round_trip():
    config = Example(widths=(7,), flag=True)
    assert from_json(Example, json.loads(json.dumps(to_json(config)))) == config


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"unknown \['speed'\]"):
        from_json(Example, {"speed": 1})
