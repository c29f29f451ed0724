"""Status of a review: progress, and estimates for the labels, the scorer and the reviewers."""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from curate.review.argilla.push import OVERLAP_REVIEWERS
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
    by_sampler: dict[str, int]
    """Records that were asked."""
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

    @property
    def records(self) -> int:
        return sum(self.by_sampler.values())

    @property
    def hours_left(self) -> float | None:
        """Of one reviewer at work."""
        return self.missing / self.answers_an_hour if self.answers_an_hour else None

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate review status --json`."""
        return {
            "name": self.name,
            "records": self.records,
            "by_sampler": self.by_sampler,
            "judged": self.judged,
            "answers": self.answers,
            "wanted": self.wanted,
            "missing": self.missing,
            "unreadable": self.unreadable,
            "answers_an_hour": self.answers_an_hour,
            "hours_left": self.hours_left,
            "verdicts": self.verdicts,
            "needs_review": self.needs_review,
            "reviewers": self.reviewers,
            "alpha": self.alpha,
            "kappas": [asdict(kappa) for kappa in self.kappas],
            **self.labels.summary(),
            "scorer": self.scorer,
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        kinds = ", ".join(f"{count} {sampler}" for sampler, count in self.by_sampler.items() if count)
        lines = [f"review '{self.name}': {self.judged} of {self.records} records judged ({kinds})"]
        lines.append(progress_line(self))
        lines.append("verdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items()))
        if self.needs_review:
            lines.append(f"reviewers split on {len(self.needs_review)}: {', '.join(self.needs_review[:3])} ...")
        return [*lines, "", *rate_lines(self.labels), *reviewer_lines(self), *scorer_lines(self.scorer)]


def review_status(cfg: StatusConfig) -> ReviewStatus:
    """The review as it stands. Raises UserError for one that was not begun."""
    review = begun_review(cfg.data, cfg.name)
    asked, answers = read_asked(cfg.data, cfg.name), read_answers(cfg.data, cfg.name)
    named = named_answers(answers, asked)
    found = verdicts(answers, asked.with_columns(pair_id="record_id"))
    by_verdict = dict(found.group_by("verdict").len().iter_rows())
    by_sampler = dict(asked["sampler"].value_counts().iter_rows())
    wanted, missing = count_wanted(review, asked, named)
    labels = named.select("record_id", "reviewer", label="named")
    return ReviewStatus(
        name=cfg.name,
        by_sampler={sampler: by_sampler.get(sampler, 0) for sampler in SAMPLERS},
        judged=named["record_id"].n_unique(),
        answers=named.height,
        wanted=wanted,
        missing=missing,
        unreadable=answers.filter(pl.col("status") == "unreadable").height,
        answers_an_hour=answers_per_hour(named),
        verdicts={verdict: by_verdict.get(verdict, 0) for verdict in VERDICTS},
        needs_review=found.filter(pl.col("verdict").is_null())["pair_id"].to_list(),
        reviewers=reviewer_facts(named).to_dicts(),
        alpha=krippendorff_alpha(labels),
        kappas=pairwise_kappa(labels),
        labels=estimate_labels(cfg, review, asked, named),
        scorer=scorer_agreement(named).to_dicts(),
    )


def count_wanted(review: Review, asked: pl.DataFrame, named: pl.DataFrame) -> tuple[int, int]:
    """Answers that all records take, and those still missing; more of one record than it takes make up for none."""
    needed = pl.when("is_overlap").then(max(OVERLAP_REVIEWERS, review.min_submitted)).otherwise(review.min_submitted)
    given = named.group_by("record_id").agg(given=pl.len().cast(pl.Int64))
    counted = asked.select("record_id", needed=needed).join(given, on="record_id", how="left")
    lacking = (pl.col("needed") - pl.col("given").fill_null(0)).clip(lower_bound=0)
    totals = counted.select(pl.col("needed").sum(), lacking.sum().alias("missing")).row(0)
    return int(totals[0]), int(totals[1])


def progress_line(found: ReviewStatus) -> str:
    """Answers so far, their pace and what is left."""
    line = f"{found.answers} answers, {found.missing} of {found.wanted} to go"
    if found.answers_an_hour and found.hours_left is not None:
        line += f"; {found.answers_an_hour:.0f} an hour for one at work"
        line += f", {format_hours(found.hours_left)} left" if found.missing else ""
    if found.unreadable:
        line += f"; {found.unreadable} answers hold labels that are not ours and do not count"
    return line


def format_hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


def rate_lines(labels: LabelEstimates) -> list[str]:
    """Agreement of reviewers with the labels, as lines."""
    rates = labels.agreement
    if rates.overall is None:
        return ["agreement with the labels: no estimate yet, for no record of the audit was judged"]
    share = format_interval(rates.overall)
    lines = [f"reviewers agree with {share} of the labels, by {rates.overall.records} records of the audit"]
    if len(rates.by_source) > 1:
        for source, part in rates.by_source.items():
            lines.append(
                f"  {source:16} {format_interval(part)}, {part.records} records" if part else f"  {source:16} -"
            )
    if rates.unanswered:
        lines.append(f"  without an answer, and not part of it: {', '.join(rates.unanswered)}")
    if rates.borrowed:
        lines.append(f"  {len(rates.borrowed)} margin bands or batches without an answer are taken to be like the next")
    if labels.predicted:
        share, gain = format_interval(labels.predicted.rate), labels.predicted.gain
        lines.append(f"with the margins of all pairs: {share}, worth {gain:.2f} times the records")
    if labels.corrected:
        lines.append(
            "labels that are right, corrected for the errors of reviewers by "
            f"{labels.corrected.gold} answers on records with a known answer: {format_corrected(labels.corrected)}"
        )
    if needed := [f"{count} for {width:.0%}" for width, count in (labels.more_records or {}).items() if count]:
        lines.append(f"more records to audit for an interval of so much to either side: {', '.join(needed)}")
    return lines


def format_corrected(rate: CorrectedRate) -> str:
    """The share with its interval, or the reason there is no estimate."""
    return str(rate.reason) if rate.estimate is None else format_interval(rate)


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
    if not rows:
        return []
    lines = ["", "reviewers name the response that the scorer prefers, by margin"]
    for row in rows:
        lines.append(
            f"  {row['source']:16} {row['band']:20} {row['agree']:>6.1%} ({row['low']:.1%} to {row['high']:.1%}), "
            f"{row['decided']} answers"
        )
    return lines
