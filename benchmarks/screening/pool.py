"""Real pairs of the public data sets: one of each prompt, with the file it comes from."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.sources.fields import Fields
from curate.sources.formats import read_row
from curate.sources.messages import Messages, UnusableRow
from curate.sources.pair_formats import Ready
from schemas.ids import pair_key, prompt_key, short_id

ROOT = Path(__file__).resolve().parents[2]
DATASETS = ROOT.parent / "shared" / "datasets"


@dataclass(frozen=True)
class RealPair:
    """One pair as its data set has it; scores only where the set has them."""

    source: str
    messages: Messages
    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None

    @property
    def pair_id(self) -> str:
        """The id that a build gives the pair."""
        return pair_key(self.messages, self.chosen, self.rejected)

    def row(self) -> dict[str, Any]:
        """The row of a file of ready pairs."""
        return {
            "prompt": self.messages,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "score_chosen": self.score_chosen,
            "score_rejected": self.score_rejected,
        }


def real_pairs(datasets: Path = DATASETS) -> list[RealPair]:
    """All pairs of `SOURCES`, the first of each prompt, without ties, equal responses and empty ones."""
    found: dict[str, RealPair] = {}
    for read in SOURCES.values():
        for pair in read(datasets):
            if has_two_sides(pair):
                found.setdefault(prompt_key(pair.messages), pair)
    return list(found.values())


def has_two_sides(pair: RealPair) -> bool:
    """False for a row that lacks what makes it a pair: text on both sides, a difference, a margin."""
    sides = (pair.chosen.strip(), pair.rejected.strip())
    is_tie = pair.score_chosen is not None and pair.score_chosen == pair.score_rejected
    return all(sides) and sides[0] != sides[1] and not is_tie


def ultrafeedback(datasets: Path) -> Iterator[RealPair]:
    for row in pl.read_parquet(datasets / "ultrafeedback_pairs.parquet").iter_rows(named=True):
        scores = row["score_chosen"], row["score_rejected"]
        yield RealPair("ultrafeedback", user(row["prompt"]), row["chosen"], row["rejected"], *scores)


def ready(row: dict[str, Any]) -> tuple[Messages, str, str]:
    """The pair of a row as a build reads it."""
    _, found = read_row(Fields(row))
    assert isinstance(found, Ready)
    return found.messages, found.chosen, found.rejected


def hh_harmless(datasets: Path) -> Iterator[RealPair]:
    with gzip.open(datasets / "hh_harmless_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            try:
                yield RealPair("hh_harmless", *ready(json.loads(line)))
            # two rows disagree about their prompt
            except UnusableRow:
                continue


def llamafactory(datasets: Path) -> Iterator[RealPair]:
    for row in json.loads((datasets / "llamafactory_dpo_en.json").read_text(encoding="utf-8")):
        yield RealPair("llamafactory", *ready(row))


def gsm8k(datasets: Path) -> Iterator[RealPair]:
    """The first right and the first wrong solution of each problem that has both."""
    for row in json_lines(datasets / "gsm8k_4solutions.jsonl"):
        right, wrong = (
            [text for text, is_correct in zip(row["responses"], row["is_correct"], strict=True) if is_correct == wanted]
            for wanted in (True, False)
        )
        if right and wrong:
            yield RealPair("gsm8k", user(row["prompt"]), right[0], wrong[0])


def arena_hard(datasets: Path) -> Iterator[RealPair]:
    """GPT-4 above GPT-3.5, on the half of the questions that is not held out as evaluation prompts."""
    for question, better, worse in arena_answers(datasets):
        if not is_evaluation(question):
            yield RealPair("arena_hard", user(question), better, worse)


def vicuna80(datasets: Path) -> Iterator[RealPair]:
    """Of each question the two answers that a judge put furthest apart."""
    answers = pl.read_parquet(datasets / "vicuna80_answers.parquet").select("answer_id", "question", "answer")
    texts = {row["answer_id"]: row for row in answers.iter_rows(named=True)}
    reviews = pl.read_parquet(datasets / "vicuna80_gpt4_reviews.parquet")
    gap = (pl.col("score1") - pl.col("score2")).abs()
    for row in reviews.sort(gap, "file", "question_id", descending=[True, False, False]).iter_rows(named=True):
        sides = sorted(((row[f"score{i}"], row[f"answer{i}_id"]) for i in (1, 2)), reverse=True)
        (score_chosen, chosen), (score_rejected, rejected) = sides
        prompt = user(texts[chosen]["question"])
        responses = texts[chosen]["answer"], texts[rejected]["answer"]
        yield RealPair("vicuna80", prompt, *responses, score_chosen, score_rejected)


SOURCES: dict[str, Callable[[Path], Iterator[RealPair]]] = {
    "ultrafeedback": ultrafeedback,
    "hh_harmless": hh_harmless,
    "llamafactory": llamafactory,
    "gsm8k": gsm8k,
    "arena_hard": arena_hard,
    "vicuna80": vicuna80,
}


def arena_answers(datasets: Path) -> Iterator[tuple[str, str, str]]:
    """Question, answer of GPT-4, answer of GPT-3.5."""
    better, worse = (
        dict(pl.read_parquet(datasets / f"arena_hard_v01_answers_{model}.parquet")["question_id", "answer"].rows())
        for model in ("gpt-4-0314", "gpt-3.5-turbo-0125")
    )
    for row in json_lines(datasets / "arena_hard_v01_questions.jsonl"):
        yield row["prompt"], better[row["question_id"]], worse[row["question_id"]]


def is_evaluation(question: str) -> bool:
    """True for the half of the Arena-Hard questions that serves as evaluation prompts here."""
    return int(short_id(question), 16) % 2 == 0


def user(prompt: str) -> Messages:
    """A conversation of one turn."""
    return [{"role": "user", "content": prompt}]


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
