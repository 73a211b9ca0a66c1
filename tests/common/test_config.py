import argparse
import json
from dataclasses import dataclass

import pytest

from common.cli import UserError
from common.config import add_options, from_json, from_options, option, to_json


@dataclass(frozen=True)
class Example:
    rate: float = option(0.5, "a float", smallest=0, largest=2)
    widths: tuple[int, ...] = option((1, 2), "a tuple", smallest=1)
    flag: bool = option(False, "a switch")
    kind: str = option("a", "a choice", choices=("a", "b"))


def parse(*words):
    parser = argparse.ArgumentParser()
    add_options(parser, Example)
    return from_options(Example, parser.parse_args(words))


def test_command_line_overrides_defaults():
    assert parse() == Example()
    assert parse("--rate", "2", "--widths", "3", "4", "5", "--flag", "--kind", "b") == Example(
        2.0, (3, 4, 5), True, "b"
    )
    with pytest.raises(SystemExit):
        parse("--kind", "c")


@pytest.mark.parametrize(
    "words, message",
    [(("--rate", "2.5"), "--rate 2.5: give 0 to 2"), (("--widths", "3", "0"), "--widths 0: give 1 or more")],
)
def test_values_beyond_an_options_range_are_a_users_error(words, message):
    with pytest.raises(UserError, match=message):
        parse(*words)


def test_json_round_trip():
    config = Example(widths=(7,), flag=True)
    assert from_json(Example, json.loads(json.dumps(to_json(config)))) == config


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"unknown \['speed'\]"):
        from_json(Example, {"speed": 1})
