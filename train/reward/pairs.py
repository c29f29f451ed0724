"""Read preference pairs for a reward head: the usable pairs of files, in the order of the files."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from curate.sources.messages import hh_conversation, is_text
from curate.sources.pairs import read_pairs
from curate.sources.rows import RowsConfig, raw_rows, rows_config
from schemas.errors import UserError
from schemas.ids import prompt_group

log = logging.getLogger(__name__)

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

    Left out, beside what `curate.sources.pairs` cannot read: ties, equal responses, and an empty chosen or rejected
    response.
    """
    pairs: list[TextPair] = []
    names = Counter(name_dataset(path) for path in paths)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(f"two files are named '{twice[0]}'; a table of results needs distinct names")
    for path in paths:
        usable = [pair for pair in read_file(path) if is_usable(pair)]
        if not usable:
            raise UserError(f"no usable preference pair in {path}")
        pairs += usable
    return pairs


def read_file(path: Path) -> Iterator[TextPair]:
    """The pairs of a file, read as its first row shows."""
    cfg, dataset = rows_config(str(path), None, None), name_dataset(path)
    first = next(raw_rows(cfg))
    if isinstance(first, dict) and {"prompt", "responses", "is_correct"} <= first.keys():
        return read_solution_pairs(cfg, dataset)
    pairs = read_text_pairs(cfg, dataset)
    # a few turns of HH have blanks around them, which say nothing about quality
    chosen = first.get("chosen") if isinstance(first, dict) and "prompt" not in first else None
    return map(trim_turns, pairs) if is_text(chosen) and hh_conversation(chosen) else pairs


def name_dataset(path: Path) -> str:
    return path.name.split(".")[0]


def is_usable(pair: TextPair) -> bool:
    """Both responses say something, and not the same."""
    return bool(pair.chosen.strip() and pair.rejected.strip() and pair.chosen != pair.rejected)


def read_text_pairs(cfg: RowsConfig, dataset: str) -> Iterator[TextPair]:
    """The pairs of a file with a chosen and a rejected response in each row, ties left out."""
    dropped: Counter[str] = Counter()
    for part in read_pairs(cfg):
        dropped.update(part.dropped["reason"])
        for row in part.rows.iter_rows(named=True):
            is_graded = row["scorer"] is not None
            if not is_graded or row["score_chosen"] is None or row["score_chosen"] != row["score_rejected"]:
                messages = tuple(row["messages"])
                yield TextPair(dataset, messages, row["chosen"], row["rejected"], row["prompt_group"], is_graded)
    if dropped:
        log.info("%s: %d rows unusable: %s", cfg.path, dropped.total(), dict(sorted(dropped.items())))


def trim_turns(pair: TextPair) -> TextPair:
    """A pair without blanks around any text."""
    messages = tuple({**turn, "content": turn["content"].strip()} for turn in pair.messages)
    return replace(pair, messages=messages, chosen=pair.chosen.strip(), rejected=pair.rejected.strip())


def read_solution_pairs(cfg: RowsConfig, dataset: str) -> Iterator[TextPair]:
    """Correct against wrong solutions; no solution is used twice, so one problem weighs little."""
    for row in raw_rows(cfg):
        if isinstance(row, dict):
            messages = ({"role": "user", "content": row["prompt"]},)
            graded = list(zip(row["responses"], row["is_correct"], strict=True))
            right, wrong = [text for text, grade in graded if grade], [text for text, grade in graded if not grade]
            for chosen, rejected in islice(zip(right, wrong, strict=False), MAX_SOLUTION_PAIRS):
                yield TextPair(dataset, messages, chosen, rejected, prompt_group(messages), True)
