"""Evaluation prompts that no training pair may hold, and published pairs that hold one."""

import json
from pathlib import Path
from typing import Any

import polars as pl
from screening.pool import DATASETS, RealPair, arena_answers, is_evaluation, json_lines, user

MT_BENCH = "mt_bench_questions.jsonl"
SELF_INSTRUCT = "self_instruct_252_user_oriented.jsonl"


def evaluation_files(folder: Path, datasets: Path = DATASETS) -> list[Path]:
    """What `--decontaminate` is given; the held-out half of Arena-Hard is written to `folder`."""
    heldout = folder / "arena_hard_heldout.jsonl"
    with heldout.open("w", encoding="utf-8") as lines:
        for question in arena_questions(datasets):
            lines.write(json.dumps({"prompt": question}) + "\n")
    return [datasets / MT_BENCH, datasets / SELF_INSTRUCT, heldout]


def evaluation_prompts(datasets: Path = DATASETS) -> list[str]:
    """First turns of MT-Bench, tasks of Self-Instruct with their input, the held-out half of Arena-Hard."""
    turns = [row["turns"][0] for row in json_lines(datasets / MT_BENCH)]
    tasks = [task(row["instruction"], row["instances"][0]["input"]) for row in json_lines(datasets / SELF_INSTRUCT)]
    return turns + tasks + arena_questions(datasets)


def published_pairs(datasets: Path = DATASETS) -> list[RealPair]:
    """Pairs that were published with an evaluation prompt: PandaLM on Self-Instruct, answers to held-out Arena-Hard."""
    known = {row["instruction"] for row in json_lines(datasets / SELF_INSTRUCT)}
    frame = pl.read_parquet(datasets / "pandalm_pairs_3humans_2judges.parquet")
    pairs = [pandalm(row) for row in frame.iter_rows(named=True) if row["instruction"] in known]
    for question, better, worse in arena_answers(datasets):
        if is_evaluation(question):
            pairs.append(RealPair("arena_hard", user(question), better, worse))
    return pairs


def pandalm(row: dict[str, Any]) -> RealPair:
    return RealPair("pandalm", user(task(row["instruction"], row["input"])), row["response1"], row["response2"])


def arena_questions(datasets: Path) -> list[str]:
    """The held-out half."""
    return [question for question, _, _ in arena_answers(datasets) if is_evaluation(question)]


def task(instruction: str, given: str | None) -> str:
    return f"{instruction}\n\n{given}" if given else instruction
