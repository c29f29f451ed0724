"""Noise of a scorer's margins: the same responses scored twice, the second time in other batches.

Numbers that should be equal differ: a sum depends on what else is in the batch, and a model that judges
does not always say the same. The difference of two scores of one response is distributed as the error of
a margin, which is a difference of two scores as well; so a margin up to its 95th percentile is a tie.

Of a pairwise scorer, which gives p to one response and 1 - p to the other, it is the difference of two p of one
comparison, sqrt(2) times as wide as the error s of one p. A margin is made of several: between two of n candidates,
whose scores are their mean p against the n - 1 others, the comparison of the two counts twice and the 2 (n - 2) others
once each, so its error is s sqrt(4 + 2 (n - 2)) / (n - 1), which is sqrt(n) / (n - 1) times the noise of p. A ready
pair is n = 2, with the margin 2 p - 1.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.files import Damaged, asset, read_record, write_record
from curate.ledger.recorder import Recorder
from curate.score.score import Messages, both_orders, is_pairwise, read_score, side_requests
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config
from curate.store.workspace import BuildRecord, Workspace
from schemas.calls import Backend, CallResult
from schemas.errors import UserError

QUANTILE = 0.95
REQUESTS_PER_ASK = 7
"""Of the second time: fewer than a batch holds, so that every response is scored among others than before."""


@dataclass(frozen=True)
class Noise:
    """The noise of a scorer, from two scorings of the same responses."""

    scorer: str
    digest: str
    rows: int
    """Responses, or of a pairwise scorer pairs, that were scored twice."""
    failed: int
    """Of them, those of which either score failed."""
    noise: float
    """95th percentile of the differences, without their sign: one that was seen, not a mean of two."""
    max: float
    """The largest difference."""
    is_pairwise: bool = False
    """The differences are those of p, not of a margin."""


def measure_noise(scorer: Backend, recorder: Recorder, num: int) -> Noise:
    """The noise of `scorer` on both responses of `num` sample pairs; scores that the ledger has are not asked again.

    Raises UserError when more than half of them have no two scores.
    """
    once = [request for row in sample_pairs(num) for request in side_requests(scorer, *row)]
    order = random.Random(0).sample(range(len(once)), len(once))
    # Another first sample, so that the ledger knows it for another call and does not give the first answer again.
    again = [replace(once[i], first_sample=1) for i in order]
    blocks = [again[start : start + REQUESTS_PER_ASK] for start in range(0, len(again), REQUESTS_PER_ASK)]
    first = recorder.ask(scorer, once)
    shuffled = [answer for block in blocks for answer in recorder.ask(scorer, block)]
    second = [answer for _, answer in sorted(zip(order, shuffled, strict=True), key=lambda pair: pair[0])]
    differences = np.abs(read_scores(scorer, first) - read_scores(scorer, second))
    known = differences[~np.isnan(differences)]
    rows, failed = len(differences), len(differences) - len(known)
    if failed > rows / 2:
        raise UserError(f"{scorer.model} gave no two scores for {failed} of {rows} sample responses")
    noise, largest = float(np.quantile(known, QUANTILE, method="higher")), float(known.max())
    return Noise(scorer.model, scorer.digest, rows, failed, noise, largest, is_pairwise(scorer))


def margin_width(is_pairwise: bool, candidates: int) -> float:
    """Ratio of the error of a margin to the difference of two measurements."""
    return math.sqrt(candidates) / (candidates - 1) if is_pairwise else 1.0


def sample_pairs(num: int) -> list[tuple[Messages, str, str]]:
    """Messages, chosen and rejected response of `num` of the pairs that come with pairwright, fewer if there are."""
    parts = read_pairs(rows_config(str(asset("samples", "pairs.jsonl")), num, seed=0))
    return pl.concat(part.rows for part in parts).select("messages", "chosen", "rejected").rows()


def read_scores(scorer: Backend, answers: Sequence[CallResult]) -> NDArray[np.float64]:
    """The score of each response, or p of each two answers to a comparison in both orders; NaN where one failed."""
    read = [read_score(answer) for answer in answers]
    if is_pairwise(scorer):
        read = [both_orders(*two) for two in zip(read[0::2], read[1::2], strict=True)]
    return np.array([score for score, _ in read], dtype=np.float64)


def save_noise(workspace: Workspace, measured: Noise) -> Path:
    """Write down what was measured, in the place of an earlier measurement."""
    path = workspace.noise(measured.scorer, measured.digest)
    write_record(path, asdict(measured))
    return path


def read_noise(workspace: Workspace, scorer: str, digest: str, candidates: int = 2) -> float | None:
    """The noise of a scorer's margins among so many responses to a prompt; None where it was never measured.

    A prompt of which some responses were withheld has fewer, and margins that are wider off.
    """
    path = workspace.noise(scorer, digest)
    if not path.exists():
        return None
    record = read_noise_record(path)
    return margin_width(record["is_pairwise"], candidates) * float(record["noise"])


def read_noise_record(path: Path) -> dict[str, Any]:
    """The fields of `Noise` as they were written."""
    remedy = "remove it and measure again with: curate doctor --scorer NAME"
    return read_record(path, "scorer", "noise", "is_pairwise", remedy=remedy)


def refuse_lost_noise(workspace: Workspace, record: BuildRecord) -> None:
    """Raises Damaged where the noise that a build was screened by is gone: without it ties would be pairs."""
    if record.summary.get("noise") is None or record.scorer is None:
        return
    path = workspace.noise(record.scorer["model"], record.scorer["digest"])
    if not path.exists():
        raise Damaged(
            f"{path} is missing, the noise of the scorer of build '{record.name}'",
            f"measure it again with: curate doctor --scorer {record.scorer['model']}",
        )
