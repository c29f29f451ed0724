"""Command-line flags from a config dataclass: each default and help text is declared once, there."""

import argparse
import difflib
import json
import logging
import os
import re
import shlex
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from curate.config import Config, FieldError
from curate.files import read_toml
from schemas.errors import CapReached, UserError
from schemas.visible import visible, visible_json

AnyConfig = TypeVar("AnyConfig", bound=Config)

DEFAULTS = {
    # Threads that wait for each other spin for milliseconds by default. On a machine that is doing anything else
    # small products then run many times slower; a short spin costs little on a quiet one.
    "GOMP_SPINCOUNT": "1000",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Result(Protocol):
    """Result of a command's function."""

    def summary(self) -> dict[str, Any]:
        """The result as JSON."""
        ...

    def lines(self) -> list[str]:
        """The result for people to read."""
        ...


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, with the nearest flag or choice."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuses what no flag takes here, where the flags that there are are known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = (word.partition("=")[0] for word in unknown if word.startswith("--"))
            near = nearest_of(flags, self._option_string_actions)
            program = self.prog.partition(" ")[0]
            raise UserError(f"unrecognized arguments: {' '.join(unknown)}; see {program} --help{near}")
        return found, []

    def error(self, message: str) -> NoReturn:
        chosen, _, choices = message.partition(" (choose from ")
        near = nearest_of([chosen.rpartition("invalid choice: ")[2].strip("'")], re.findall(r"[\w-]+", choices))
        raise UserError(f"{message}; see {self.prog} --help{near}")


def nearest_of(words: Iterable[str], known: Iterable[str]) -> str:
    """What was meant by the first of the words that is near to something known, for the end of an error."""
    known = list(known)
    near = (close for word in words for close in difflib.get_close_matches(word, known, n=1))
    return f" (did you mean '{found}'?)" if (found := next(near, None)) else ""


def add_flags(parser: argparse.ArgumentParser, config: type[Config]) -> None:
    """One flag a field (`min_margin` -> `--min-margin`), a positional where metadata says so, and `-c FILE`."""
    hints = get_type_hints(config)
    for field in ordered_fields(config):
        # Only the class that declares a field knows its docstring.
        own = next(base for base in config.__mro__ if issubclass(base, Config) and field.name in base.__annotations__)
        about = " ".join((own.__pydantic_fields__[field.name].description or "").split()).replace("%", "%%")
        kind = plain_type(hints[field.name])
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": about}
        if field.metadata.get("positional"):
            parser.add_argument(field.name, nargs="?", type=kind, metavar=field.name.upper(), **common)
            continue
        default = default_of(field)
        if default not in (None, (), False, MISSING, ""):
            common["help"] += f" (default: {default})"
        if kind is bool:
            common |= {"action": "store_true"}
        elif get_origin(kind) is tuple:
            common |= {"action": "append", "metavar": field.name.upper()}
        elif get_origin(kind) is Literal:
            common |= {"choices": get_args(kind)}
        else:
            common |= {"type": kind, "metavar": field.name.upper()}
        parser.add_argument(f"--{field.name.replace('_', '-')}", **common)
    parser.add_argument("-c", dest="config_file", metavar="FILE", help="TOML file with the same fields; flags win")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")


def ordered_fields(config: type[Config]) -> list[Field[Any]]:
    """The fields of a config: what it declares itself before what it inherits."""
    inherited = {field.name for base in config.__mro__[1:] if is_dataclass(base) for field in fields(base)}
    return sorted(fields(config), key=lambda field: field.name in inherited)


def read_config(
    config: type[AnyConfig], arguments: argparse.Namespace, known: Mapping[str, Any] | None = None
) -> AnyConfig:
    """The config from defaults, then what is `known`, then the TOML file, then the flags that were given.

    Raises UserError for a field that is missing, unknown or invalid, and names the file or flag.
    """
    names = {field.name: field for field in fields(config)}
    file, written = arguments.config_file, read_written(config, arguments)
    given = {name: value for name, value in vars(arguments).items() if name in names}
    values = {**(known or {}), **written, **given}
    needed = [name for name, field in names.items() if default_of(field) is MISSING]
    if missing := [name for name in needed if name not in values]:
        flags = [n.upper() if names[n].metadata.get("positional") else f"--{n.replace('_', '-')}" for n in missing]
        raise UserError(f"{' and '.join(flags)} must be given")
    try:
        return config(**values)
    except FieldError as error:
        if error.field in written and error.field not in given:
            raise UserError(f"{file}: field '{error.field}' {error.problem}, found {error.value!r}") from error
        raise


def read_written(config: type[Config], arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields that the TOML file of `-c` sets. Raises UserError for one that the config does not have."""
    file, known = arguments.config_file, [field.name for field in fields(config)]
    written = {name.replace("-", "_"): value for name, value in read_toml(Path(file)).items()} if file else {}
    if unknown := [name for name in written if name not in known]:
        near = nearest_of(unknown[:1], known)
        raise UserError(f"{file}: unknown field '{unknown[0]}'{near}; known: {', '.join(known)}")
    return written


def given_fields(config: type[Config], arguments: argparse.Namespace) -> set[str]:
    """The fields that the flags or the TOML file set."""
    return {*vars(arguments), *read_written(config, arguments)}


def command_line(command: str, cfg: Config) -> str:
    """The command that gives this config, as a shell takes it: what is not the default, as flags."""
    words = command.split()
    for field in ordered_fields(type(cfg)):
        value = getattr(cfg, field.name)
        if value == default_of(field):
            continue
        flag = [] if field.metadata.get("positional") else [f"--{field.name.replace('_', '-')}"]
        for item in value if isinstance(value, tuple) else [value]:
            words += flag if item is True else [*flag, str(item)]
    return shlex.join(words)


def default_of(field: Field[Any]) -> Any:
    """A field's default value, made if it has a factory."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def plain_type(hint: Any) -> Any:
    """The type a flag is read as: `X | None` is read as X."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(option for option in get_args(hint) if option is not type(None))
    return hint


def run_command(main: Any, arguments: Sequence[str] | None) -> int:
    """Run a command's body: the user's mistake becomes one sentence on stderr and exit code 2, a cap exit code 3."""
    set_defaults()
    try:
        return int(main(arguments) or 0)
    except UserError as error:
        return exit_with(f"error: {without_secrets(str(error))}", error.exit_code, arguments)
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
    print(visible(problem), file=sys.stderr)
    if "--json" in (sys.argv if arguments is None else arguments):
        print_json({"error": problem.removeprefix("error: "), "exit_code": code})
    return code


def without_secrets(text: str) -> str:
    """A text without the user-info of addresses and without hub tokens."""
    return re.sub(r"\bhf_\w+", "hf_***", re.sub(r"//[^/@\s]+@", "//***@", text))


def show_notes(*packages: str) -> None:
    """Progress and notes of our packages go to stderr; results go to stdout."""
    notes = logging.StreamHandler(sys.stderr)
    notes.setFormatter(VisibleNotes())
    logging.basicConfig(handlers=[notes])
    for package in packages:
        logging.getLogger(package).setLevel(logging.INFO)


class VisibleNotes(logging.Formatter):
    """Notes may repeat what an endpoint said."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def print_result(result: Result, as_json: bool, *more: str) -> int:
    """A result on stdout: as its one JSON object, else as lines to read with `more` after them; returns exit code 0."""
    if as_json:
        print_json(result.summary())
    else:
        print_lines([*result.lines(), *more])
    return 0


def print_lines(lines: Iterable[str]) -> None:
    """Lines on stdout, without hidden signs: those of a model may move the cursor or turn the direction of writing."""
    print(visible("\n".join(lines)), flush=True)


def print_json(value: dict[str, Any]) -> None:
    """The one JSON object of `--json`, on stdout."""
    print(visible_json(json.dumps(value, ensure_ascii=False)), flush=True)


def set_defaults() -> None:
    """Set environment variables that are not set; to be called before torch is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
