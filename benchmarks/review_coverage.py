"""Simulate reviewers over thousands of samples, and count how often the intervals of a human pass hold the truth.

A population of pairs, a tenth with the wrong label, whose margins tell right from wrong labels with an AUROC of 0.8.
Each repeat gives the pairs new random numbers, and after ten there is a new population. The samplers of `curate
review push` draw an audit by source and margin band, the most suspicious pairs (cleaning), and pairs of small margin
(learning; of the pool of it the real sampler takes those least like each other, and there is no text here). Reviewers
of accuracy 0.8, 0.95, or both in equal shares answer; a quarter of what they get wrong they call equal. Prints a
table, and last one line of JSON. Coverages are those of 95% intervals, and are good to 1 point with 2,000 repeats.

agreement            coverage of the rate at which the pool agrees with labels, over all that its reviewers might say
agreement_of_these   the same for what they would say of the pairs of this population, one answer to each
agreement_of_source  the same as the first, for one source, which has half of the audit
half_width, bias     of the interval and of the estimate
naive_bias           of the share of all reviewed records that agree
chances              sum of the probabilities of all pairs to be audited, by the records audited: 1
found                wrong labels among the cleaning records, by their share in the population
true_rate            coverage of the share of right labels by the rate corrected with known answers
true_known           share of the repeats in which the correction could be made
uncorrected          coverage of the share of right labels by the interval of the agreement
predicted            coverage of the prediction-powered interval; `_shown`: of that or of the first, whichever is shown;
                     `_gain` and `_helps`: variance ratio, and the share of the repeats in which it is shown
predicted_wide       the same with each source as one margin band
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from curate.review.diverse import draw_pool as unsure
from curate.review.diverse import has_small_margin, suspicion_score
from curate.review.estimate.gold import correct_rate
from curate.review.estimate.ppi import predicted_rate
from curate.review.estimate.rates import agreement_rates
from curate.review.strata import add_bands, band_edges, draw_audit, make_strata, rank_for_audit
from schemas.names import FLAGS

SOURCES = (2000, 1200, 800)
WRONG = 0.1
AUROC = 0.8
TIES = 0.25
"""Share of the wrong answers that name neither response."""
POOLS = {"0.8": (0.8,), "0.95": (0.95,), "both": (0.8, 0.95)}
SIZES = ((80, 80, 40, 20), (200, 200, 100, 50))
"""Records of audit, cleaning and learning, and gold answers."""
REPEATS_PER_POPULATION = 10

Flags = NDArray[np.bool_]
Means = dict[str, float]


def drawn_population(draw: np.random.Generator) -> pl.DataFrame:
    """Pairs as the samplers take them, and `is_wrong`: a tenth of the labels are.

    Margins of the wrong and the right are normal, as far apart as the AUROC asks for; there are no flags.
    """
    source = np.repeat(np.arange(len(SOURCES)), SOURCES)
    is_wrong = np.zeros(source.size, dtype=bool)
    is_wrong[draw.choice(source.size, int(WRONG * source.size), replace=False)] = True
    rows = pl.DataFrame(
        {
            "row": np.arange(source.size),
            "source": source.astype(str),
            "margin": draw.standard_normal(source.size) + np.sqrt(2) * norm.ppf(AUROC) * ~is_wrong,
            "is_wrong": is_wrong,
        }
    ).with_columns(flags=pl.lit([], pl.List(pl.Enum(FLAGS))), is_disputed=pl.lit(False))
    ranked = rows.with_columns(suspicion=suspicion_score(), is_small=has_small_margin())
    return add_bands(ranked, band_edges(rows))


def answers_of(is_wrong: Flags, pool: tuple[float, ...], draw: np.random.Generator) -> tuple[Flags, Flags]:
    """Whether an answer names the chosen response, and whether it names the rejected one."""
    accuracy = np.asarray(pool)[draw.integers(len(pool), size=is_wrong.size)]
    chance = draw.random(is_wrong.size)
    is_right = chance < accuracy
    is_opposite = ~is_right & (chance < accuracy + (1 - accuracy) * (1 - TIES))
    return np.where(is_wrong, is_opposite, is_right), np.where(is_wrong, is_right, is_opposite)


def simulated(
    population: pl.DataFrame, pool: tuple[float, ...], sizes: tuple[int, int, int, int], draw: np.random.Generator
) -> dict[str, float | None]:
    """What one human pass says, and whether it is so."""
    audit_size, cleaning_size, learning_size, gold_size = sizes
    population = population.with_columns(number=pl.Series(draw.random(population.height)))
    is_wrong = population["is_wrong"].to_numpy()
    names_chosen, _ = answers_of(is_wrong, pool, draw)
    accuracy = float(np.mean(pool))
    of_pool = (1 - WRONG) * accuracy + WRONG * (1 - accuracy) * (1 - TIES)
    turns = rank_for_audit(population)
    sample, strata = draw_audit(turns, audit_size), make_strata(turns, audit_size)
    rest = population.join(sample, on="row", how="anti").sort("suspicion", descending=True)
    cleaning = rest["row"][:cleaning_size].to_numpy()
    learning = unsure(rest[cleaning_size:], learning_size)["row"][:learning_size].to_numpy()
    audit = sample["row"].to_numpy()
    reviewed = np.concatenate([audit, cleaning, learning])

    audited = sample.with_columns(agree=pl.Series(names_chosen[audit].astype(float)))
    # A pair of every stratum for each of its pairs: the probabilities of all pairs add up to the audit.
    chances = float(
        strata.join(sample.unique(["source", "band"]), on=["source", "band"])
        .select((pl.col("pairs") * pl.col("probability")).sum())
        .item()
    )
    rates = agreement_rates(audited, strata)
    overall = rates.overall
    assert overall is not None
    first = rates.by_source["0"]
    assert first is not None
    right, opposite = answers_of(np.zeros(gold_size, dtype=bool), pool, draw)
    truth = correct_rate(overall, pl.DataFrame({"is_right": right, "is_opposite": opposite}))
    result = {
        "agreement": overall.low <= of_pool <= overall.high,
        "agreement_of_these": overall.low <= names_chosen.mean() <= overall.high,
        "agreement_of_source": first.low <= of_pool <= first.high,
        "half_width": (overall.high - overall.low) / 2,
        "bias": overall.estimate - of_pool,
        "naive_bias": names_chosen[reviewed].mean() - of_pool,
        "chances": chances / audit_size,
        "found": is_wrong[cleaning].mean() / WRONG,
        "true_known": truth.low is not None,
        "true_rate": None,
        "true_half_width": None,
        "uncorrected": overall.low <= 1 - WRONG <= overall.high,
    }
    if truth.low is not None and truth.high is not None:
        result |= {
            "true_rate": truth.low <= 1 - WRONG <= truth.high,
            "true_half_width": (truth.high - truth.low) / 2,
        }
    for name, one_band in (("predicted", False), ("predicted_wide", True)):
        band = pl.lit("all") if one_band else pl.col("band")
        table = strata.group_by("source", band.alias("band"), maintain_order=True).agg(pl.col("pairs").sum())
        found = predicted_rate(audited.with_columns(band=band), table, population.with_columns(band=band))
        if found is not None:
            shown = found.rate if found.helps else overall
            result |= {
                f"{name}": found.rate.low <= of_pool <= found.rate.high,
                f"{name}_shown": shown.low <= of_pool <= shown.high,
                f"{name}_gain": found.gain,
                f"{name}_helps": found.helps,
            }
    return {key: None if value is None else float(value) for key, value in result.items()}


def cell(place: int, pool: tuple[float, ...], sizes: tuple[int, int, int, int], repeats: int, seed: int) -> Means:
    """Means over the repeats of one pool of reviewers and size of the pass."""
    draw = np.random.default_rng([seed, place])
    rows = []
    for repeat in range(repeats):
        if repeat % REPEATS_PER_POPULATION == 0:
            population = drawn_population(draw)
        rows.append(simulated(population, pool, sizes, draw))
    means = pl.DataFrame(rows, infer_schema_length=None).select(pl.all().mean()).row(0, named=True)
    return {key: round(value, 4) for key, value in means.items() if value is not None}


def main() -> None:
    """Print what was found for each pool of reviewers and size of the pass."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=30)
    given = parser.parse_args()
    cases = {f"{name}, {sizes[0]} audited": (pool, sizes) for name, pool in POOLS.items() for sizes in SIZES}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        going = {
            name: workers.submit(cell, place, *case, given.repeats, given.seed)
            for place, (name, case) in enumerate(cases.items())
        }
        found = {name: done.result() for name, done in going.items()}
    keys = list(dict.fromkeys(key for means in found.values() for key in means))
    width = max(map(len, keys))
    print(" " * width, *(f"{name:>18}" for name in found))
    for key in keys:
        print(f"{key:{width}}", *(f"{means[key]:18.4f}" if key in means else " " * 18 for means in found.values()))
    print(json.dumps({"repeats": given.repeats, "seed": given.seed, "found": found}))


if __name__ == "__main__":
    main()
