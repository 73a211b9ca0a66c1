"""One frozen dataclass is the defaults, the command line and the JSON in a checkpoint."""

import argparse
import codecs
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from common.cli import UserError

Config = TypeVar("Config")


class PresetParser(argparse.ArgumentParser):
    """@FILE stands for the arguments in it, one a line, in UTF-8, UTF-16 with its mark, or whatever names files have.

    Blank lines and comments (#) are skipped, and blanks around an argument.
    """

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        given = sys.argv[1:] if args is None else args
        expanded = [one for arg in given for one in (self.read(arg[1:]) if arg.startswith("@") else [arg])]
        return super().parse_known_args(expanded, namespace)

    def read(self, name: str) -> list[str]:
        try:
            content = Path(name).read_bytes()
            wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            text = content.decode("utf-16") if wide else os.fsdecode(content.removeprefix(codecs.BOM_UTF8))
        except (OSError, UnicodeDecodeError) as error:
            self.error(f"@{name}: {error}")
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field with a default and the help text of its command-line option.

    Metadata: `choices`, and `smallest` and `largest` of what the command line accepts.
    """
    return field(default=default, metadata={"help": help, **metadata})


def add_options(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Add one option per field: `--name VALUE`, `--name A B ...` for tuples, `--name` / `--no-name` for booleans.

    An option left out keeps the field's default. The first line of the class' docstring names the group.
    """
    group = parser.add_argument_group((config_class.__doc__ or "").splitlines()[0].rstrip("."))
    types = get_type_hints(config_class)
    for f in fields(config_class):
        kind, flag = types[f.name], "--" + f.name.replace("_", "-")
        shared: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "help": f"{f.metadata.get('help', '')} (default: {f.default})",
        }
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **shared)
        elif get_origin(kind) is tuple:
            group.add_argument(flag, type=get_args(kind)[0], nargs="+", metavar="VALUE", **shared)
        else:
            group.add_argument(flag, type=kind, choices=f.metadata.get("choices"), **shared)


def from_options(config_class: type[Config], options: argparse.Namespace) -> Config:
    """The config whose fields were given on the command line, all others at their defaults.

    Raises UserError beyond an option's range.
    """
    given = {f.name: getattr(options, f.name) for f in fields(config_class) if hasattr(options, f.name)}  # type: ignore[arg-type]
    return checked(from_json(config_class, given))


def checked(config: Config) -> Config:
    """The config itself. Raises UserError where a value is beyond its option's range."""
    for f in fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        check_range("--" + f.name.replace("_", "-"), value, f.metadata.get("smallest"), f.metadata.get("largest"))
    return config


def parse_options(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *config_classes: type
) -> tuple[Any, ...]:
    """Parse a command line to which the configs' options are added: (arguments, one config per class).

    Raises like `from_options`.
    """
    for config_class in config_classes:
        add_options(parser, config_class)
    arguments = parser.parse_args(argv)
    return arguments, *(from_options(config_class, arguments) for config_class in config_classes)


def check_range(name: str, value: Any, smallest: float | None = None, largest: float | None = None) -> None:
    """Raise UserError unless value is finite and smallest <= value <= largest; of a tuple or list, every element."""
    for one in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(one, float) and not math.isfinite(one):
            raise UserError(f"{name} {one}: give a number")
        if smallest is not None and one < smallest or largest is not None and one > largest:
            limits = f"{smallest} to {largest}" if largest is not None else f"{smallest} or more"
            raise UserError(f"{name} {one}: give {limits}")


def to_json(config: Any) -> dict[str, Any]:
    """The config as a dict of JSON values (tuples become lists)."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def from_json(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`.

    Raises:
        ValueError: a name that the config doesn't have, or a missing one without a default.
    """
    known = {f.name: f for f in fields(config_class)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    missing = sorted(n for n, f in known.items() if f.default is MISSING and n not in values)
    if unknown or missing:
        raise ValueError(f"{config_class.__name__}: unknown {unknown}, missing {missing}; known: {sorted(known)}")
    return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
