"""Status of a review: progress, and estimates for the labels, the scorer and the reviewers."""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from curate.review.argilla.push import answers_needed
from curate.review.collected import count_each
from curate.review.config import StatusConfig
from curate.review.estimate.agreement import Kappa, krippendorff_alpha, pairwise_kappa, scorer_agreement
from curate.review.estimate.gold import CorrectedRate
from curate.review.estimate.labels import LabelEstimates, estimate_labels
from curate.review.estimate.rates import Estimate
from curate.review.estimate.reviewers import answers_per_hour, reviewer_facts
from curate.screen.human import named_answers, verdicts
from curate.store.reviews import Review, begun_review, read_answers, read_asked
from schemas.names import SAMPLERS, VERDICTS


@dataclass(frozen=True)
class ReviewStatus:
    """A review by the answers that were pulled or imported so far."""

    name: str
    records: int
    """Records that were asked."""
    by_sampler: dict[str, int]
    judged: int
    """Records with an answer."""
    answers: int
    wanted: int
    """Answers that all records take."""
    missing: int
    unreadable: int
    """Answers with labels that are not ours, which do not count."""
    answers_an_hour: float | None
    """Of one reviewer at work."""
    hours_left: float | None
    """Of one reviewer at work."""
    verdicts: dict[str, int]
    needs_review: list[str]
    """Records on which reviewers split."""
    reviewers: list[dict[str, Any]]
    """Rows of `reviewer_facts`."""
    alpha: float | None
    """Krippendorff's, of all reviewers."""
    kappas: list[Kappa]
    labels: LabelEstimates
    scorer: list[dict[str, Any]]
    """Rows of `scorer_agreement`."""

    def summary(self) -> dict[str, Any]:
        """The fields in their order, with the estimates of `labels` in its place."""
        facts = {**vars(self), "kappas": [asdict(kappa) for kappa in self.kappas]}
        labels, scorer = facts.pop("labels"), facts.pop("scorer")
        return {**facts, **labels.summary(), "scorer": scorer}

    def lines(self) -> list[str]:
        kinds = ", ".join(f"{count} {sampler}" for sampler, count in self.by_sampler.items() if count)
        lines = [
            f"review '{self.name}': {self.judged} of {self.records} records judged ({kinds})",
            progress_line(self),
            "verdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items()),
        ]
        if self.needs_review:
            lines.append(f"reviewers split on {len(self.needs_review)}: {', '.join(self.needs_review[:3])} ...")
        return [*lines, "", *rate_lines(self.labels), *reviewer_lines(self), *scorer_lines(self.scorer)]


def review_status(cfg: StatusConfig) -> ReviewStatus:
    """The review as it stands. Raises UserError for one that was not begun."""
    review = begun_review(cfg.data, cfg.name)
    asked, answers = read_asked(cfg.data, cfg.name), read_answers(cfg.data, cfg.name)
    named = named_answers(answers, asked)
    found = verdicts(answers, asked.with_columns(pair_id="record_id"))
    wanted, missing = count_wanted(review, asked, named)
    pace = answers_per_hour(named)
    labels = named.select("record_id", "reviewer", label="named")
    return ReviewStatus(
        name=cfg.name,
        records=asked.height,
        by_sampler=count_each(asked["sampler"], SAMPLERS),
        judged=named["record_id"].n_unique(),
        answers=named.height,
        wanted=wanted,
        missing=missing,
        unreadable=answers.filter(pl.col("status") == "unreadable").height,
        answers_an_hour=pace,
        hours_left=missing / pace if pace else None,
        verdicts=count_each(found["verdict"], VERDICTS),
        needs_review=found.filter(pl.col("verdict").is_null())["pair_id"].to_list(),
        reviewers=reviewer_facts(named).to_dicts(),
        alpha=krippendorff_alpha(labels),
        kappas=pairwise_kappa(labels),
        labels=estimate_labels(cfg, review, asked, named),
        scorer=scorer_agreement(named).to_dicts(),
    )


def count_wanted(review: Review, asked: pl.DataFrame, named: pl.DataFrame) -> tuple[int, int]:
    """Answers that all records take, and those still missing; more of one record than it takes make up for none."""
    given = named.group_by("record_id").agg(given=pl.len().cast(pl.Int64))
    counted = asked.select("record_id", needed=answers_needed(review)).join(given, on="record_id", how="left")
    lacking = (pl.col("needed") - pl.col("given").fill_null(0)).clip(lower_bound=0)
    return int(counted["needed"].sum()), int(counted.select(lacking.sum()).item())


def progress_line(found: ReviewStatus) -> str:
    """Answers so far, their pace and what is left."""
    line = f"{found.answers} answers, {found.missing} of {found.wanted} to go"
    if found.answers_an_hour:
        line += f"; {found.answers_an_hour:.0f} an hour for one at work"
    if hours := found.hours_left:
        line += f", {hours:.1f} hours left" if hours >= 1 else f", {60 * hours:.0f} minutes left"
    if found.unreadable:
        line += f"; {found.unreadable} answers hold labels that are not ours and do not count"
    return line


def rate_lines(labels: LabelEstimates) -> list[str]:
    """Agreement of reviewers with the labels, as lines."""
    rates = labels.agreement
    if rates.overall is None:
        return ["agreement with the labels: no estimate yet, for no record of the audit was judged"]
    share = format_interval(rates.overall)
    lines = [f"reviewers agree with {share} of the labels, by {rates.overall.records} records of the audit"]
    if len(rates.by_source) > 1:
        for source, part in rates.by_source.items():
            shown = f"{format_interval(part)}, {part.records} records" if part else "-"
            lines.append(f"  {source:16} {shown}")
    if rates.unanswered:
        lines.append(f"  without an answer, and not part of it: {', '.join(rates.unanswered)}")
    if rates.borrowed:
        lines.append(f"  {len(rates.borrowed)} margin bands or batches without an answer are taken to be like the next")
    if labels.predicted:
        share, gain = format_interval(labels.predicted.rate), labels.predicted.gain
        lines.append(f"with the margins of all pairs: {share}, worth {gain:.2f} times the records")
    if corrected := labels.corrected:
        share = str(corrected.reason) if corrected.estimate is None else format_interval(corrected)
        lines.append(
            f"labels that are right, corrected for the errors of reviewers by {corrected.gold} answers on records with "
            f"a known answer: {share}"
        )
    if needed := [f"{count} for {width:.0%}" for width, count in (labels.more_records or {}).items() if count]:
        lines.append(f"more records to audit for an interval of so much to either side: {', '.join(needed)}")
    return lines


def format_interval(rate: Estimate | CorrectedRate) -> str:
    return f"{rate.estimate:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def reviewer_lines(found: ReviewStatus) -> list[str]:
    """Agreement of reviewers with each other, and statistics of each, as lines."""
    lines = []
    if found.alpha is not None:
        lines.append(f"reviewers agree with each other: Krippendorff's alpha {found.alpha:.3f}")
    for kappa in found.kappas:
        if kappa.kappa is not None:
            one, other = kappa.reviewers
            lines.append(
                f"  {one} and {other}: kappa {kappa.kappa:.3f} ({kappa.low:.2f} to {kappa.high:.2f}), {kappa.n} records"
            )
    for row in found.reviewers:
        line = f"  {row['reviewer']}: {row['answers']} answers"
        line += f", {row['seconds']:.0f} s each" if row["seconds"] is not None else ""
        if row["gold"]:
            line += f", right on {row['right']:.0%} of {row['gold']} known ({row['low']:.0%} to {row['high']:.0%})"
        lines.append(line)
    return ["", *lines] if lines else []


def scorer_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Agreement of reviewers with the scorer by margin band, as lines."""
    lines = [
        f"  {row['source']:16} {row['band']:20} {row['agree']:>6.1%} ({row['low']:.1%} to {row['high']:.1%}), "
        f"{row['decided']} answers"
        for row in rows
    ]
    return ["", "reviewers name the response that the scorer prefers, by margin", *lines] if lines else []
