"""How far a review is, and what it tells of the dataset, the scorer and the reviewers."""

from dataclasses import asdict
from typing import Any

import polars as pl

from curate.review.argilla.push import OVERLAP_REVIEWERS
from curate.review.config import StatusConfig
from curate.review.estimate.agreement import krippendorff_alpha, pairwise_kappa, scorer_agreement
from curate.review.estimate.gold import correct_rate, gold_answers
from curate.review.estimate.ppi import predicted_rate
from curate.review.estimate.rates import Estimate, agreement_rates, audited_records, reviews_needed
from curate.review.estimate.reviewers import answers_per_hour, reviewer_facts
from curate.review.population import population
from curate.review.strata import with_bands
from curate.screen.human import named_answers, verdicts
from curate.store.reviews import Review, begun_review, read_answers, read_asked
from schemas.errors import UserError
from schemas.names import SAMPLERS, VERDICTS

HALF_WIDTHS = (0.05, 0.03)
"""Of an interval, for which the records that are still to be audited are told."""


def status(cfg: StatusConfig) -> dict[str, Any]:
    """What `curate review status --json` prints, by the answers that were pulled or imported so far.

    Raises UserError for a review that was not begun.
    """
    review = begun_review(cfg.data, cfg.name)
    asked, answers = read_asked(cfg.data, cfg.name), read_answers(cfg.data, cfg.name)
    said = named_answers(answers, asked)
    found = verdicts(answers, asked.with_columns(pair_id="record_id"))
    by_verdict = dict(found.group_by("verdict").len().iter_rows())
    by_sampler = dict(asked["sampler"].value_counts().iter_rows())
    wanted, missing = answers_wanted(review, asked, said)
    an_hour = answers_per_hour(said)
    labels = said.select("record_id", "reviewer", label="named")
    return {
        "name": cfg.name,
        "records": asked.height,
        "by_sampler": {sampler: by_sampler.get(sampler, 0) for sampler in SAMPLERS},
        "judged": said["record_id"].n_unique(),
        "answers": said.height,
        "wanted": wanted,
        "missing": missing,
        "unreadable": answers.filter(pl.col("status") == "unreadable").height,
        "answers_an_hour": an_hour,
        "hours_left": missing / an_hour if an_hour else None,
        "verdicts": {verdict: by_verdict.get(verdict, 0) for verdict in VERDICTS},
        "needs_review": found.filter(pl.col("verdict").is_null())["pair_id"].to_list(),
        "reviewers": reviewer_facts(said).to_dicts(),
        "alpha": krippendorff_alpha(labels),
        "kappas": [asdict(kappa) for kappa in pairwise_kappa(labels)],
        **estimates(cfg, review, asked, said),
        "scorer": scorer_agreement(said).to_dicts(),
    }


def answers_wanted(review: Review, asked: pl.DataFrame, said: pl.DataFrame) -> tuple[int, int]:
    """Answers that all records take, and those still missing; more of one record than it takes make up for none."""
    needed = pl.when("is_overlap").then(max(OVERLAP_REVIEWERS, review.min_submitted)).otherwise(review.min_submitted)
    given = said.group_by("record_id").agg(given=pl.len().cast(pl.Int64))
    counted = asked.select("record_id", needed=needed).join(given, on="record_id", how="left")
    lacking = (pl.col("needed") - pl.col("given").fill_null(0)).clip(lower_bound=0)
    totals = counted.select(pl.col("needed").sum(), lacking.sum().alias("missing")).row(0)
    return int(totals[0]), int(totals[1])


def estimates(cfg: StatusConfig, review: Review, asked: pl.DataFrame, said: pl.DataFrame) -> dict[str, Any]:
    """What the audit tells of the labels of the whole dataset.

    Each batch stands for its share of the audit, however much of it was judged: of an audit that was just extended the
    answers there are come from earlier batches alone, among them pairs that had been picked for being suspicious.
    """
    strata = pl.DataFrame(
        [asdict(stratum) for stratum in review.strata],
        schema={"source": pl.String, "band": pl.String, "pairs": pl.Int64, "drawn": pl.Int64},
    )
    records = audited_records(said)
    rates = agreement_rates(audited_records(said.with_columns(batch_bands())), strata_by_batch(strata, asked))
    overall = rates.overall
    gold = gold_answers(said)
    return {
        "agreement": rate_json(overall),
        "by_source": {source: rate_json(rate) for source, rate in rates.by_source.items()},
        "borrowed": [{"source": source, "band": band, "from": other} for source, band, other in rates.borrowed],
        "unanswered": list(rates.unanswered),
        "corrected": asdict(correct_rate(overall, gold)) if overall and gold.height else None,
        "predicted": predicted_json(cfg, review, records, strata),
        "more_records": {f"{width:g}": reviews_needed(overall, width) for width in HALF_WIDTHS} if overall else None,
    }


def batch_bands() -> pl.Expr:
    """The band with the batch that a record came with."""
    return pl.format("{}, batch {}", "band", "batch").alias("band")


def strata_by_batch(strata: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The strata, each parted by the batches of its audit; one that no record is of stays whole."""
    counted = asked.filter(pl.col("sampler") == "random").group_by("source", "band", "batch").agg(records=pl.len())
    parted = strata.join(counted.sort("batch"), on=["source", "band"], how="left", maintain_order="left_right")
    parted = parted.with_columns(pl.col("batch").fill_null(0), pl.col("records").fill_null(1))
    share = pl.col("records") / pl.col("records").sum().over("source", "band")
    return parted.select("source", batch_bands(), pairs=pl.col("pairs") * share)


def rate_json(rate: Estimate | None) -> dict[str, Any] | None:
    return asdict(rate) if rate else None


def predicted_json(
    cfg: StatusConfig, review: Review, records: pl.DataFrame, strata: pl.DataFrame
) -> dict[str, Any] | None:
    """The agreement with the help of all margins, where that gains something."""
    try:
        pairs = population(cfg.data, cfg.name, include_dropped=False)
    except UserError:
        # The build or mix was removed; the review still tells what it can.
        return None
    rows = with_bands(pairs.rows, review.edges).select("source", "band", "margin")
    rows = rows.join(strata, on=["source", "band"], how="semi")
    found = predicted_rate(records, strata, rows)
    return {**asdict(found.rate), "gain": found.gain} if found and found.helps else None


def status_lines(found: dict[str, Any]) -> list[str]:
    """The same for people to read."""
    kinds = ", ".join(f"{count} {sampler}" for sampler, count in found["by_sampler"].items() if count)
    lines = [f"review '{found['name']}': {found['judged']} of {found['records']} records judged ({kinds})"]
    lines.append(progress_line(found))
    lines.append("verdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in found["verdicts"].items()))
    if found["needs_review"]:
        lines.append(f"reviewers split on {len(found['needs_review'])}: {', '.join(found['needs_review'][:3])} ...")
    lines += ["", *rate_lines(found), *reviewer_lines(found), *scorer_lines(found)]
    return lines


def progress_line(found: dict[str, Any]) -> str:
    """Answers so far, their pace and what is left."""
    line = f"{found['answers']} answers, {found['missing']} of {found['wanted']} to go"
    if found["answers_an_hour"]:
        line += f"; {found['answers_an_hour']:.0f} an hour for one at work"
        line += f", {format_hours(found['hours_left'])} left" if found["missing"] else ""
    if found["unreadable"]:
        line += f"; {found['unreadable']} answers hold labels that are not ours and do not count"
    return line


def format_hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


def rate_lines(found: dict[str, Any]) -> list[str]:
    """How often people agree with the labels."""
    rate = found["agreement"]
    if rate is None:
        return ["people agree with the labels: nothing to tell yet, for no record of the audit was judged"]
    lines = [f"people agree with {format_interval(rate)} of the labels, by {rate['records']} records of the audit"]
    if len(found["by_source"]) > 1:
        for source, part in found["by_source"].items():
            lines.append(
                f"  {source:16} {format_interval(part)}, {part['records']} records" if part else f"  {source:16} -"
            )
    if found["unanswered"]:
        lines.append(f"  without an answer, and not part of it: {', '.join(found['unanswered'])}")
    if found["borrowed"]:
        lines.append(
            f"  {len(found['borrowed'])} margin bands or batches without an answer are taken to be like the next"
        )
    if part := found["predicted"]:
        lines.append(
            f"with the margins of all pairs: {format_interval(part)}, worth {part['gain']:.2f} times the records"
        )
    if part := found["corrected"]:
        known = f"by {part['gold']} answers on records with a known answer"
        lines.append(
            f"labels that are right, corrected for the errors of reviewers {known}: "
            + (part["reason"] if part["estimate"] is None else format_interval(part))
        )
    needed = [f"{count} for {float(width):.0%}" for width, count in found["more_records"].items() if count]
    if needed:
        lines.append(f"more records to audit for an interval of so much to either side: {', '.join(needed)}")
    return lines


def format_interval(rate: dict[str, Any]) -> str:
    return f"{rate['estimate']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"


def reviewer_lines(found: dict[str, Any]) -> list[str]:
    """How far the reviewers agree with each other, and each of them."""
    lines = []
    if found["alpha"] is not None:
        lines.append(f"reviewers agree with each other: Krippendorff's alpha {found['alpha']:.3f}")
    for kappa in found["kappas"]:
        if kappa["kappa"] is not None:
            one, other = kappa["reviewers"]
            lines.append(
                f"  {one} and {other}: kappa {kappa['kappa']:.3f} ({kappa['low']:.2f} to {kappa['high']:.2f}), "
                f"{kappa['n']} records"
            )
    for row in found["reviewers"]:
        line = f"  {row['reviewer']}: {row['answers']} answers"
        line += f", {row['seconds']:.0f} s each" if row["seconds"] is not None else ""
        if row["gold"]:
            line += f", right on {row['right']:.0%} of {row['gold']} known ({row['low']:.0%} to {row['high']:.0%})"
        lines.append(line)
    return ["", *lines] if lines else []


def scorer_lines(found: dict[str, Any]) -> list[str]:
    """How often people name the response that the scorer prefers, band by band."""
    if not found["scorer"]:
        return []
    lines = ["", "people name the response that the scorer prefers, by margin"]
    for row in found["scorer"]:
        lines.append(
            f"  {row['source']:16} {row['band']:20} {row['agree']:>6.1%} ({row['low']:.1%} to {row['high']:.1%}), "
            f"{row['decided']} answers"
        )
    return lines
