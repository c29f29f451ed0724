"""Thresholds of a build that was screened again: the build keeps them when it is given again."""

import logging
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from curate.config import Thresholds
from schemas.errors import UserError

log = logging.getLogger(__name__)

NAMES = tuple(field.name for field in fields(Thresholds))


def keep_thresholds(
    name: str, asked: dict[str, Any], screened: dict[str, Any], given: Collection[str] | None = None
) -> dict[str, Any]:
    """The thresholds of the last screening of the build `name`, for a build that asks for others by its defaults alone.

    `asked` and `screened` are configs as a record holds them, and `given` the fields that were asked for by name; by
    default those that differ from their defaults. Raises UserError where one of them differs from the screening.
    """
    given = [field for field in NAMES if asked[field] != getattr(Thresholds, field)] if given is None else given
    others = [field for field in NAMES if is_other(asked[field], screened[field])]
    if wrong := [field for field in others if field in given]:
        there, here = (
            ", ".join(describe_threshold(field, values[field]) for field in wrong) for values in (screened, asked)
        )
        raise UserError(
            f"build '{name}' was last screened with {there}, and this command gives {here}; screen it again "
            f"(curate screen {name}), leave that out, or give another --name"
        )
    kept = {field: screened[field] for field in others}
    if kept:
        flags = ", ".join(describe_threshold(field, value) for field, value in kept.items())
        log.info("build '%s' keeps what it was last screened with: %s", name, flags)
    return {field: tuple(value) if isinstance(value, list) else value for field, value in kept.items()}


def is_other(asked: Any, screened: Any) -> bool:
    """Whether two values of a threshold differ; the order of names says nothing."""
    asked, screened = (sorted(value) if isinstance(value, list | tuple) else value for value in (asked, screened))
    return bool(asked != screened)


def describe_threshold(name: str, value: Any) -> str:
    """A threshold as its flag, also where it is the default."""
    flag = f"--{name.replace('_', '-')}"
    is_off = value is None or value is False or value in ("", [], ())
    return format_threshold(name, value) or (f"no {flag}" if is_off else f"{flag} {value}")


def format_threshold(name: str, value: Any) -> str:
    """A threshold as its flag where it is not the default, else nothing."""
    flag = f"--{name.replace('_', '-')}"
    if value == getattr(Thresholds, name, None):
        return ""
    if isinstance(value, bool):
        return flag
    return " ".join(f"{flag} {item}" for item in (value if isinstance(value, list | tuple) else [value]))
