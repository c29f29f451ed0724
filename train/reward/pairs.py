"""Preference pairs for a reward head, read from files in the form their makers publish."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.ids import prompt_group

HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
MAX_SOLUTION_PAIRS = 2
"""Pairs taken from one problem with several graded solutions."""

Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class TextPair:
    dataset: str
    """The file's name up to its first dot."""
    messages: Messages
    chosen: str
    rejected: str
    group: str
    """`prompt_group` of the messages."""
    is_graded: bool
    """Whether the file grades helpfulness or correctness, so that a refusal cannot be the better response."""


def read_reward_pairs(paths: Iterable[Path]) -> list[TextPair]:
    """The usable pairs of every file, in file order.

    Left out: ties, equal responses, an empty chosen or rejected response, no user turn, and sides that
    disagree about the prompt.
    """
    pairs = []
    for path in paths:
        dataset, found = path.name.split(".")[0], 0
        for row in read_rows(path):
            is_graded = "is_correct" in row or "score_chosen" in row
            for messages, chosen, rejected in row_pairs(row, path):
                usable = chosen.strip() and rejected.strip() and chosen != rejected
                if usable and any(turn["role"] == "user" for turn in messages):
                    pairs.append(TextPair(dataset, messages, chosen, rejected, prompt_group(messages), is_graded))
                    found += 1
        if not found:
            raise UserError(f"no usable preference pair in {path}")
    names = Counter(path.name.split(".")[0] for path in paths)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(f"two files are named '{twice[0]}'; a table of results needs distinct names")
    return pairs


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a parquet, JSON, or JSON-lines file, the last also gzipped."""
    if not path.is_file():
        raise UserError(f"no pair file {path}")
    try:
        if path.suffix == ".parquet":
            import polars as pl

            rows: list[Any] = pl.read_parquet(path).to_dicts()
        else:
            text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            is_list = text.lstrip()[:1] == b"["
            rows = json.loads(text) if is_list else [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{path}: a row is {str(row)[:40]!r}, expected an object with named fields")
        yield row


def row_pairs(row: Mapping[str, Any], path: Path) -> Iterator[tuple[Messages, str, str]]:
    """(messages, chosen, rejected) of one row in any of the forms known here."""
    if "is_correct" in row and "responses" in row:
        yield from solution_pairs(row)
    elif is_text(row, "prompt", "chosen", "rejected"):
        if row.get("score_chosen") is None or row.get("score_chosen") != row.get("score_rejected"):
            yield ({"role": "user", "content": row["prompt"]},), row["chosen"], row["rejected"]
    elif is_text(row, "chosen", "rejected") and "prompt" not in row:
        (prompt, chosen), (other, rejected) = split_hh(row["chosen"]), split_hh(row["rejected"])
        if prompt == other:
            yield prompt, chosen, rejected
    else:
        raise UserError(
            f"{path}: a row has the fields {', '.join(row)}; expected texts prompt, chosen, rejected, "
            "HH texts chosen and rejected, or prompt, responses, is_correct"
        )


def is_text(row: Mapping[str, Any], *names: str) -> bool:
    """Whether all the named fields are texts."""
    return all(isinstance(row.get(name), str) for name in names)


def solution_pairs(row: Mapping[str, Any]) -> Iterator[tuple[Messages, str, str]]:
    """Correct against wrong solutions; no solution is used twice, so one problem weighs little."""
    right = [text for text, is_correct in zip(row["responses"], row["is_correct"], strict=True) if is_correct]
    wrong = [text for text, is_correct in zip(row["responses"], row["is_correct"], strict=True) if not is_correct]
    for chosen, rejected in list(zip(right, wrong, strict=False))[:MAX_SOLUTION_PAIRS]:
        yield ({"role": "user", "content": row["prompt"]},), chosen, rejected


def split_hh(text: str) -> tuple[Messages, str]:
    """The conversation before the last assistant turn, and that turn."""
    parts = HH_TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": roles[name], "content": said.strip()} for name, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if not turns or turns[-1]["role"] != "assistant":
        return (), ""
    return tuple(turns[:-1]), turns[-1]["content"]
