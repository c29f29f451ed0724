"""Command-line flags from a config dataclass: each default and help text is declared once, there."""

import argparse
import ast
import dataclasses
import inspect
import json
import logging
import os
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from curate.files import read_toml
from schemas.errors import CapReached, UserError

Config = TypeVar("Config")

DEFAULTS = {
    # Threads that wait for each other spin for milliseconds by default. On a machine that is doing anything else
    # small products then run many times slower; a short spin costs little on a quiet one.
    "GOMP_SPINCOUNT": "1000",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_flags(parser: argparse.ArgumentParser, config: type[Any]) -> None:
    """One flag a field (`min_margin` -> `--min-margin`), a positional where metadata says so, and `-c FILE`."""
    help_texts = field_docs(config)
    hints = get_type_hints(config)
    # What a config declares itself comes before what it inherits.
    inherited = {field.name for base in config.__mro__[1:] for field in dataclass_fields(base)}
    for field in sorted(dataclasses.fields(config), key=lambda field: field.name in inherited):
        text = help_texts.get(field.name, "").replace("%", "%%")
        if field.metadata.get("positional"):
            parser.add_argument(
                field.name,
                nargs="?",
                type=plain_type(hints[field.name]),
                default=argparse.SUPPRESS,
                help=text,
                metavar=field.name.upper(),
            )
            continue
        default = default_of(field)
        if default not in (None, (), False, dataclasses.MISSING, ""):
            text += f" (default: {default})"
        flags = [f"--{field.name.replace('_', '-')}"]
        kind = plain_type(hints[field.name])
        if kind is bool:
            parser.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=text)
        elif get_origin(kind) is tuple:
            parser.add_argument(
                *flags, action="append", default=argparse.SUPPRESS, help=text, metavar=field.name.upper()
            )
        elif get_origin(kind) is Literal:
            parser.add_argument(*flags, choices=get_args(kind), default=argparse.SUPPRESS, help=text)
        else:
            parser.add_argument(*flags, type=kind, default=argparse.SUPPRESS, help=text, metavar=field.name.upper())
    parser.add_argument("-c", dest="config_file", metavar="FILE", help="TOML file with the same fields; flags win")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def read_config(config: type[Config], arguments: argparse.Namespace, known: Mapping[str, Any] | None = None) -> Config:
    """The config from defaults, then what is `known`, then the TOML file, then the flags that were given."""
    values: dict[str, Any] = dict(known or {})
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    hints = get_type_hints(config)
    if arguments.config_file:
        for name, value in read_toml(Path(arguments.config_file)).items():
            key = name.replace("-", "_")
            if key not in fields:
                raise UserError(f"{arguments.config_file}: unknown field '{name}'; known: {', '.join(fields)}")
            values[key] = coerce(value, plain_type(hints[key]), f"{arguments.config_file}: field '{name}'")
    given = vars(arguments)
    for name in fields:
        if name in given:
            values[name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
    needed = [name for name, field in fields.items() if default_of(field) is dataclasses.MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        shown = [n.upper() if fields[n].metadata.get("positional") else f"--{n.replace('_', '-')}" for n in missing]
        raise UserError(f"{' and '.join(shown)} must be given")
    return config(**values)


def coerce(value: Any, kind: Any, where: str) -> Any:
    """A TOML value as the field's type; an int serves as a float."""
    if get_origin(kind) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise UserError(f"{where} must be a list of texts, found {value!r}")
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise UserError(f"{where} must be one of {', '.join(map(str, get_args(kind)))}, found {value!r}")
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not kind:
        raise UserError(f"{where} must be {kind.__name__}, found {value!r}")
    return value


def default_of(field: dataclasses.Field[Any]) -> Any:
    """A field's default value, made if it has a factory."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def plain_type(hint: Any) -> Any:
    """The type a flag is read as: `X | None` is read as X."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(option for option in get_args(hint) if option is not type(None))
    return hint


def field_docs(config: type[Any]) -> dict[str, str]:
    """Field name -> the docstring under it, joined to one line."""
    docs: dict[str, str] = {}
    for declared in filter(dataclasses.is_dataclass, config.__mro__):
        body = ast.parse(inspect.cleandoc(inspect.getsource(declared))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                docs.setdefault(ast.unparse(field.target), " ".join(str(text.value.value).split()))
    return docs


def dataclass_fields(config: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a dataclass; of any other class none."""
    return dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()


def run_command(main: Any, arguments: Sequence[str] | None) -> int:
    """Run a command's body: the user's mistake becomes one sentence on stderr and exit code 2, a cap exit code 3."""
    set_defaults()
    try:
        return int(main(arguments) or 0)
    except UserError as error:
        return exit_with(f"error: {without_secrets(str(error))}", 2, arguments)
    except CapReached as reached:
        return exit_with(str(reached), 3, arguments)
    except BrokenPipeError:
        # Whoever read, such as `head`, has enough; nothing more may be written, at the end of Python either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted; everything so far is saved, the same command goes on", file=sys.stderr)
        return 130


def exit_with(problem: str, code: int, arguments: Sequence[str] | None) -> int:
    """Say why a command ended early, with `--json` also as the one object on stdout; returns the exit code."""
    print(problem, file=sys.stderr)
    if "--json" in (sys.argv if arguments is None else arguments):
        print_json({"error": problem.removeprefix("error: "), "exit_code": code})
    return code


def without_secrets(text: str) -> str:
    """A text without the user-info of addresses and without hub tokens."""
    return re.sub(r"\bhf_\w+", "hf_***", re.sub(r"//[^/@\s]+@", "//***@", text))


def show_notes(*packages: str) -> None:
    """Progress and notes of our packages go to stderr; results go to stdout."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for package in packages:
        logging.getLogger(package).setLevel(logging.INFO)


def print_json(value: dict[str, Any]) -> None:
    """The one JSON object of `--json`, on stdout."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def set_defaults() -> None:
    """Set what is not set; to be called before torch is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
