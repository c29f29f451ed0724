"""Write the records of a review to an HTML form or a JSONL file, and read answers from a file."""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import nearest_hint, write_atomically
from curate.review.answers import answer_row, answer_table, merge_answers, parse_utc, reviewer_id
from curate.review.argilla.dataset import BETTER_TEXTS, WRONG_TEXTS
from curate.review.collected import CollectedAnswers, count_verdicts
from curate.review.config import ExportConfig, ImportConfig
from curate.review.display import display_messages, display_text
from curate.review.select import choose_records
from curate.screen.human import current_answers, latest_answers
from curate.store.reviews import answers_to_collect, lock_review, read_asked, read_review, review_names, save_answers
from schemas.errors import UserError

log = logging.getLogger(__name__)

FORM_MARK = b'<meta name="generator" content="pairwright review form">'
SURE_TEXTS = {1: "a guess", 2: "fairly", 3: "certain"}
UNANSWERED: dict[str, Any] = {"better": None, "sure": None, "wrong": [], "note": ""}
CLOCKS_DIFFER = timedelta(hours=1)
"""How far ahead the clock of a reviewer may be."""
NAMED = 5
"""Ids and lines that a message names at most."""
STUB = r"\{\{(\w+)\}\}"


@dataclass(frozen=True)
class ExportedReview:
    """A file with the records of a review."""

    name: str
    records: int
    path: Path

    def summary(self) -> dict[str, Any]:
        return {"name": self.name, "records": self.records, "path": str(self.path)}

    def lines(self) -> list[str]:
        return [f"review '{self.name}': {self.records} records in {self.path}"]


@dataclass(frozen=True)
class ImportedAnswers(CollectedAnswers):
    """The answers of a review after those of a file were merged; drafts and discarded records are Argilla's."""

    added: int
    """Answers that were not known before."""
    not_judged: int
    """Records of the file without an answer."""
    unreadable: int
    """Answers with a label that is not ours; they are kept and not counted."""
    never_asked: list[str]
    """Ids of the file that the review does not have."""


def export_records(cfg: ExportConfig) -> ExportedReview:
    """Write the records of a review to a file; those chosen before, or newly chosen ones where there are none yet.

    Raises UserError for another suffix, and for a file that is there and would be lost.
    """
    writers = {".html": make_form, ".jsonl": record_lines}
    if cfg.out.suffix not in writers:
        raise UserError(f"--out '{cfg.out}' is neither .html, a form, nor .jsonl; name it so")
    refuse_to_lose(cfg.out)
    with lock_review(cfg.data, cfg.name):
        asked = read_asked(cfg.data, cfg.name)
        # Without a record of the review its rows were chosen by a command that did not come to its end.
        if asked.is_empty() or read_review(cfg.data, cfg.name) is None:
            asked = choose_records(cfg, cfg.name)
    # Chosen records stand sampler by sampler, and which one it was would tell what to expect of a pair. An id is a
    # hash, so by ids the order says nothing, and a reviewer who stops early has judged a fair sample.
    asked = asked.sort("batch", "record_id")
    write_atomically(cfg.out, writers[cfg.out.suffix](cfg.name, asked).encode())
    return ExportedReview(cfg.name, asked.height, cfg.out)


def refuse_to_lose(path: Path) -> None:
    """Raises UserError where a file is there that is not an export of ours that nobody has written in."""
    if not path.exists():
        return
    content = path.read_bytes() if path.is_file() else b""
    if FORM_MARK in content:
        return
    try:
        rows = [json.loads(line) for line in content.splitlines()]
        if rows and all(row["messages"] and UNANSWERED.items() <= row.items() for row in rows):
            return
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise UserError(f"{path} is there already and is no export without answers; give --out another name")


def record_lines(name: str, asked: pl.DataFrame) -> str:
    """One line of JSON a record, to be filled in."""
    seen = asked.select("record_id", "messages", "response_a", "response_b").rename({"record_id": "record"})
    rows = ({"review": name, **row, **UNANSWERED} for row in seen.iter_rows(named=True))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make_form(name: str, asked: pl.DataFrame) -> str:
    """A page that works by itself: it asks nothing of any network, and no script but its own runs in it."""
    style, script = read_resource("form.css"), read_resource("form.js")
    head = {
        "review": name,
        "ids": asked["record_id"].to_list(),
        "better": answer_choices(BETTER_TEXTS),
        "sure": answer_choices(SURE_TEXTS),
        "wrong": answer_choices(WRONG_TEXTS),
    }
    records = (
        {
            "messages": display_messages(row["messages"]),
            "response_a": display_text(row["response_a"]),
            "response_b": display_text(row["response_b"]),
        }
        for row in asked.select("messages", "response_a", "response_b").iter_rows(named=True)
    )
    parts = {
        "policy": f"default-src 'none'; script-src '{source_hash(script)}'; style-src '{source_hash(style)}'; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "head": script_json(head),
        "records": "\n" + "".join(script_json(record) + "\n" for record in records),
    }
    # All at once: a text of a record may look like a stub itself.
    return re.sub(STUB, lambda stub: parts[stub[1]], read_resource("form.html"))


def read_resource(name: str) -> str:
    return files("curate.review.form").joinpath(name).read_text(encoding="utf-8")


def answer_choices(texts: dict[Any, str]) -> list[dict[str, str]]:
    return [{"name": str(name), "words": words} for name, words in texts.items()]


def script_json(value: Any) -> str:
    """`value` as one line of JSON that can stand in a script element: no text in it ends the element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def source_hash(source: str) -> str:
    """What a content security policy calls an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def import_answers(cfg: ImportConfig) -> ImportedAnswers:
    """Merge the answers of a file into the history of their review; the same file again adds nothing.

    A line holds `review`, `record` and `better`, and may hold `reviewer`, `sure`, `wrong`, `note` and `answered_at`.
    Without `reviewer` the name of the file stands for the person; without `answered_at`, or with one that lies in the
    future, the time the file was saved stands for it. A line with a time and no `better` takes an answer back.
    Raises UserError, with nothing merged, for a file that is not such lines or names no review of ours.
    """
    lines = read_lines(cfg.file)
    name = find_review(cfg, lines)
    with lock_review(cfg.data, name):
        asked, history = read_asked(cfg.data, name), answers_to_collect(cfg.data, name)
        ids = set(asked["record_id"])
        unknown = sorted({line["record"] for _, line in lines if line["record"] not in ids})
        asked_for = [(number, line) for number, line in lines if line["record"] in ids]
        new, not_judged = read_versions(cfg.file, asked_for, history)
        answers = merge_answers(history, new)
        if not answers.equals(history):
            save_answers(cfg.data, name, answers)
    unreadable = new.filter(pl.col("status") == "unreadable").height
    log_uncounted(cfg.file, not_judged, unreadable, unknown)
    by_verdict, needs_review = count_verdicts(answers, asked)
    return ImportedAnswers(
        name=name,
        submitted=current_answers(answers).height,
        drafts=0,
        discarded=0,
        verdicts=by_verdict,
        needs_review=needs_review,
        added=answers.height - history.height,
        not_judged=not_judged,
        unreadable=unreadable,
        never_asked=unknown,
    )


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers, from 1. Raises UserError for any other content."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give the JSONL file that the form saved") from error
    if text.lstrip().lower().startswith("<!doctype html"):
        raise UserError(f"{path} is the form itself; open it, judge, and give the file that 'Save answers' saves")
    lines = []
    # JSON leaves signs such as U+2028 as they are, which splitlines() takes for ends of lines.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            lines.append((number, read_line(path, number, line)))
    if not lines:
        raise UserError(f"{path} is empty; judge at least one record and save the answers again")
    return lines


def read_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path} line {number} is not JSON, or cut short ({error}); save the answers again") from error
    texts = [value.get(key) for key in ("review", "record")] if isinstance(value, dict) else [None]
    if not all(isinstance(text, str) and text for text in texts):
        raise UserError(f"{path} line {number} names no 'review' and 'record'; give the file that the form saved")
    return dict(value)


def find_review(cfg: ImportConfig, lines: Sequence[tuple[int, dict[str, Any]]]) -> str:
    """The review that all lines are of."""
    _, first = lines[0]
    name: str = first["review"]
    for number, line in lines:
        if line["review"] != name:
            raise UserError(
                f"{cfg.file} holds answers of '{name}' and, on line {number}, of '{line['review']}'; import them from "
                "a file each"
            )
    if name not in (known := review_names(cfg.data)):
        raise UserError(f"no review '{name}' in {cfg.data / 'reviews'}{nearest_hint(name, known)}; is --data right?")
    return name


def read_versions(
    path: Path, lines: Sequence[tuple[int, dict[str, Any]]], history: pl.DataFrame
) -> tuple[pl.DataFrame, int]:
    """Rows of `Annotation`, and how many records the file has that were not judged."""
    now = datetime.now(UTC)
    saved_at = min(now, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    last = {(row["record_id"], row["reviewer"]): row for row in latest_answers(history).iter_rows(named=True)}
    rows, not_judged, late = [], 0, []
    for number, line in lines:
        given = believed = read_answered_at(path, number, line)
        if given and given > now + CLOCKS_DIFFER:
            late.append(number)
            believed = None
        row = answer_row(
            line["record"],
            reviewer_id(read_reviewer(path, number, line)),
            believed or saved_at,
            **{label: line.get(label) for label in UNANSWERED},
        )
        before = last.get((row["record_id"], row["reviewer"]))
        if line.get("better") is None:
            not_judged += 1
            if given is None or before is None:
                continue
            row["status"] = "withdrawn"
        # Saving a file again without a change, or copying it, gives it a new time and says nothing new.
        if believed is None and before is not None and answer_content(before) == answer_content(row):
            continue
        rows.append(row)
    if late:
        log.warning(
            "%s: %d answers lie in the future (line %s); the time the file was saved is taken instead",
            *(path, len(late), format_some(late)),
        )
    return answer_table(rows), not_judged


def read_answered_at(path: Path, number: int, line: dict[str, Any]) -> datetime | None:
    """When the answer was given; None where the line does not say. A time without a zone is UTC."""
    given = line.get("answered_at")
    if given is None:
        return None
    try:
        return parse_utc(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} line {number}: answered_at {given!r} is no time such as 2030-01-31T12:00:00Z; correct it, or "
            "remove it"
        ) from error


def read_reviewer(path: Path, number: int, line: dict[str, Any]) -> str:
    name = line.get("reviewer")
    if name is None or name == "":
        return path.stem
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{path} line {number}: reviewer {name!r} is no name; give one")
    return name


def answer_content(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["status"], *(row[label] for label in UNANSWERED)


def log_uncounted(path: Path, not_judged: int, unreadable: int, unknown: Sequence[str]) -> None:
    """Log the lines of a file that do not count."""
    if not_judged:
        log.info("%s: %d records were not judged", path, not_judged)
    if unreadable:
        log.warning("%s: %d answers hold a label that is not ours; they are kept and not counted", path, unreadable)
    if unknown:
        log.warning("%s: %d records were never asked, such as %s; left out", path, len(unknown), format_some(unknown))


def format_some(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items[:NAMED])) + (" ..." if len(items) > NAMED else "")
