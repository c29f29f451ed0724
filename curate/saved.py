"""Builds and mixes by name, as they were saved."""

import difflib
import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.manifest import refuse_newer

MADE_STAGES = ("score_pairs", "make_pairs", "write_contrasts", "read_pairs")
"""Stages that give pairs as they were made, whatever screening or people say of them; the last one first."""
PAIRS_STAGES = ("swap_pairs", "redact_pairs", *MADE_STAGES)
"""Stages that give pairs, the last one of a build first."""


def pairs_stage(stages: Container[str]) -> str:
    """Which of a build's stages gave the pairs that were screened."""
    return next(stage for stage in PAIRS_STAGES if stage in stages)


def labelled_stage(stages: Container[str]) -> str:
    """Which of a build's stages gave the pairs with their labels as they were before people swapped any."""
    return next(stage for stage in PAIRS_STAGES[1:] if stage in stages)


def build_names(data: Path) -> list[str]:
    """Names of all builds."""
    return sorted(path.stem for path in (data / "builds").glob("*.json"))


def mix_names(data: Path) -> list[str]:
    """Names of all published mixes."""
    return sorted(path.name.removesuffix(".lock.json") for path in (data / "mixes").glob("*.lock.json"))


def read_build(data: Path, name: str) -> dict[str, Any]:
    """The record of a build. Raises UserError for an unknown one, with the nearest name."""
    path = data / "builds" / f"{name}.json"
    if not path.exists():
        raise UserError(f"no build '{name}' in {data / 'builds'}{nearest(name, build_names(data))}")
    return read_record(path, "tables", "identities", "summary", "config")


def read_record(path: Path, *fields: str) -> dict[str, Any]:
    """A JSON file that pairwright wrote, with `format` and at least these fields.

    Raises UserError for a damaged one and for one of a newer format.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = int(value["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    refuse_newer(found, str(path))
    if missing := [field for field in fields if field not in value]:
        raise damaged(path, KeyError(missing[0]))
    return value


def damaged(path: Path, error: Exception) -> UserError:
    """The error for a file of ours that cannot be read."""
    what = f"no field {error}" if isinstance(error, KeyError) else str(error)
    return UserError(f"{path} is damaged ({what}); restore it, or remove it and give the command that made it again")


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or what is known, for the end of an error."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (found {', '.join(known)})" if known else " (there is none yet)"
