"""Choose the pairs sent for review: a random audit, the most suspicious, and some that are unlike the others."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.models.encoder import minilm_encoder
from curate.review.config import ChoiceConfig, ExportConfig, PushConfig
from curate.review.diverse import draw_pool, has_small_margin, pick_farthest_first, spread_over_groups, suspicion_score
from curate.review.population import Population, read_population
from curate.review.strata import NO_MARGIN, add_bands, band_edges, draw_audit, make_strata, rank_for_audit
from curate.screen.human import text_key
from curate.screen.similar.embeddings import make_embed
from curate.screen.similar.semantic import prompt_texts
from curate.sources.pairs import EXAMPLE, read_pairs
from curate.sources.row import shown_raw
from curate.sources.rows import rows_config
from curate.store.reviews import Review, Stratum, read_answers, read_asked, read_review, save_asked, save_review
from schemas.errors import UserError
from schemas.ids import hash_ids, pair_key
from schemas.names import FLAGS, SAMPLERS
from schemas.tables import ReviewRecord

log = logging.getLogger(__name__)

Unlike = Callable[[pl.DataFrame, pl.DataFrame, int], pl.DataFrame]
"""Rows to choose among, rows that are chosen already and how many are wanted, to rows unlike each other."""

ROUNDING = 1e-9


def choose_records(cfg: PushConfig | ExportConfig, name: str) -> pl.DataFrame:
    """All records of a review as they are saved: those of earlier batches, and a batch of new ones.

    Earlier records stay as they were shown. What they stand for may change: as the audit grows, records that were
    picked for another reason become part of it, and probabilities rise. Raises UserError for invalid flags, for
    flags that contradict how the review was begun, and where there has never been a pair to ask about.
    """
    check_choice(cfg)
    review, asked = read_review(cfg.data, name), read_asked(cfg.data, name)
    if review is None and read_answers(cfg.data, name).is_empty():
        # Records whose review was never saved: nobody has seen them, and the same ones are chosen again.
        asked = asked.clear()
    pairs = read_population(cfg.data, name, cfg.include_dropped)
    # As `Population.rows` has it.
    key = pl.col("record_id") if cfg.include_dropped else text_key("record_id")
    review = continue_review(review, Review(name, pairs.kind, cfg.seed, cfg.min_submitted))
    review = replace(review, edges=band_edges(pairs.rows) | review.edges)
    rows = add_facts(add_bands(pairs.rows, review.edges), asked, review, key)
    audit, strata = extend_audit(rows, cfg)
    picked = pick_rows(rows, audit, cfg, partial(unlike_prompts, pairs=pairs, data=cfg.data))
    if strata is not None:
        asked = update_audit(asked, audit, key)
        review = replace(review, strata=tuple(Stratum(**row) for row in strata.iter_rows(named=True)))
    batch = pl.concat([picked, pairs.texts_of(picked["pair_id"]).drop("pair_id")], how="horizontal")
    if cfg.gold:
        batch = pl.concat([batch, known_records(cfg.gold, name, cfg.seed, pairs, asked).select(batch.columns)])
    if batch.is_empty() and asked.is_empty():
        raise nothing_to_ask(name, cfg)
    asked = pl.concat([asked, arrange_batch(batch, asked, review, cfg.overlap)])
    save_asked(cfg.data, name, asked)
    save_review(cfg.data, review)
    log_choice(name, batch, cfg)
    return asked


def check_choice(cfg: ChoiceConfig) -> None:
    """Raises UserError for shares that do not fit together."""
    if cfg.random_share + cfg.diverse_share > 1 + ROUNDING:
        raise UserError(
            f"--random-share {cfg.random_share:g} and --diverse-share {cfg.diverse_share:g} are more than all records "
            "together; lower either"
        )


def continue_review(review: Review | None, asked_for: Review) -> Review:
    """The review as it was begun, if it was. Raises UserError for flags that would make it another one."""
    if review is None:
        return asked_for
    if review.kind != asked_for.kind:
        raise UserError(
            f"'{review.name}' was a {review.kind} when its review was begun and is a {asked_for.kind} now; review the "
            "other under a new name"
        )
    for field in ("seed", "min_submitted"):
        if (begun := getattr(review, field)) != (now := getattr(asked_for, field)):
            flag = field.replace("_", "-")
            raise UserError(f"review '{review.name}' was begun with --{flag} {begun}, not {now}; give --{flag} {begun}")
    return review


def add_facts(rows: pl.DataFrame, asked: pl.DataFrame, review: Review, key: pl.Expr) -> pl.DataFrame:
    """The facts that pairs are chosen by: `number`, `suspicion`, `is_small`, `is_asked` and `was_audit`.

    `key` is what the records that were asked are known by among the pairs. Pairs that were asked as known answers are
    left out.
    """
    earlier = asked.select("sampler", key=key)
    keys_of = {sampler: earlier.filter(pl.col("sampler") == sampler)["key"].implode() for sampler in ("random", "gold")}
    return rows.with_columns(
        suspicion_score().alias("suspicion"),
        has_small_margin().alias("is_small"),
        hash_ids(rows["key"], review.seed, f"audit of {review.name}").alias("number"),
        is_asked=pl.col("key").is_in(earlier["key"].implode()),
        was_audit=pl.col("key").is_in(keys_of["random"]),
    ).filter(~pl.col("key").is_in(keys_of["gold"]))


def extend_audit(rows: pl.DataFrame, cfg: ChoiceConfig) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The pairs of the audit, those asked before included, with `probability`; and its strata.

    `rows` are all pairs as `add_facts` gives them. It is `--random-share` of the new records larger than it was, and
    of all pairs where all that are left are asked. No pairs and no strata where it is not to be extended.
    """
    share = 0.0 if cfg.only_flagged else cfg.random_share
    if share == 0:
        return rows.clear().with_columns(probability=pl.lit(1.0)), None
    turns = rank_for_audit(rows)
    new = turns.filter(~pl.col("is_asked"))["turn"]
    if len(new) <= cfg.records:
        size = turns.height
    else:
        size = int(turns["was_audit"].sum()) + math.ceil(share * cfg.records - ROUNDING)
        # Of a dataset that has changed, much of what was asked may not be drawn any more.
        size = min(size, int(new[cfg.records]))
    return draw_audit(turns, size), make_strata(turns, size)


def pick_rows(rows: pl.DataFrame, audit: pl.DataFrame, cfg: ChoiceConfig, unlike: Unlike) -> pl.DataFrame:
    """The new records, as rows with `sampler` and `probability`.

    The diverse records are chosen last, among those that are not suspicious enough.
    """
    of_audit = audit.filter(~pl.col("is_asked"))
    left = rows.filter(~pl.col("is_asked")).join(audit, on="key", how="anti", maintain_order="left")
    if cfg.only_flagged:
        left = left.filter(pl.col("flags").list.len() > 0)
    room = cfg.records - of_audit.height
    for_learning = 0 if cfg.only_flagged else min(room, round(cfg.diverse_share * cfg.records))
    for_cleaning = room - for_learning
    left = left.sort("suspicion", "number", descending=[True, False])
    of_cleaning, left = left.head(for_cleaning), left.slice(for_cleaning)
    taken = pl.concat([rows.filter("is_asked"), of_audit.select(rows.columns), of_cleaning])
    of_learning = unlike(left, taken, for_learning) if for_learning and left.height else left.clear()
    columns = ["pair_id", "source", "band", "margin", "flags", "is_swapped"]
    return pl.concat(
        [
            of_audit.select(*columns, "probability", sampler=pl.lit("random")),
            of_cleaning.select(*columns, probability=pl.lit(1.0), sampler=pl.lit("suspicious")),
            of_learning.select(*columns, probability=pl.lit(1.0), sampler=pl.lit("diverse")),
        ]
    )


def unlike_prompts(
    among: pl.DataFrame, taken: pl.DataFrame, records: int, pairs: Population, data: Path
) -> pl.DataFrame:
    """Rows of small margin whose prompts are unlike each other and those taken, by vectors where it was built with."""
    candidates = draw_pool(among, records)
    if not pairs.is_embedded:
        log.info("diverse records are spread over prompts at random, for not all of these pairs were embedded")
        return spread_over_groups(candidates, records)
    if candidates.height <= records:
        return candidates
    embed = make_embed(minilm_encoder(), data)

    def vectors(rows: pl.DataFrame) -> NDArray[np.float32]:
        texts = pairs.texts_of(rows["pair_id"]).lazy()
        return embed(prompt_texts(texts, np.arange(rows.height)), rows.height).astype(np.float32)

    return candidates[pick_farthest_first(vectors(candidates), vectors(taken), records)]


def update_audit(asked: pl.DataFrame, audit: pl.DataFrame, key: pl.Expr) -> pl.DataFrame:
    """The earlier records with their sampler and probability as of now.

    A record whose pair is not in the audit any more, since the dataset has changed, counts as suspicious.
    """
    now = audit.select("key", "source", "band", "margin", "probability", is_audit=pl.lit(True))
    found = asked.with_columns(key=key).join(now, on="key", how="left", maintain_order="left", suffix="_now")
    is_audit = pl.col("is_audit").fill_null(False)
    if lost := found.filter((pl.col("sampler") == "random") & ~is_audit).height:
        log.info("%d records are not in the audit any more, for the dataset has changed since they were drawn", lost)
    sampler = pl.col("sampler").cast(pl.String)
    without = pl.when(sampler == "random").then(pl.lit("suspicious")).otherwise(sampler)
    return found.with_columns(
        *[
            pl.when(is_audit).then(f"{column}_now").otherwise(column).alias(column)
            for column in ("source", "band", "margin")
        ],
        sampler=pl.when(is_audit).then(pl.lit("random")).otherwise(without),
        probability=pl.when(is_audit).then("probability_now").otherwise(1.0),
    ).pipe(ReviewRecord.cast)


def known_records(path: Path, name: str, seed: int, pairs: Population, asked: pl.DataFrame) -> pl.DataFrame:
    """The pairs of a file with what a batch has of those of the dataset, but for those asked before.

    Raises UserError where one is, either way round, a pair of the dataset: people would be asked it twice.
    """
    known = read_known_pairs(path, seed)
    new = known.join(asked, left_on="pair_id", right_on="record_id", how="anti", maintain_order="left")
    keys = pairs.rows["key"].implode()
    if (found := new.filter(pl.col("pair_id").is_in(keys) | pl.col("opposite_id").is_in(keys))).height:
        raise UserError(
            f"--gold {path}: {found.height} rows are pairs of '{name}' itself, the first on "
            f"{found['messages'][0][-1]['content'][:80]!r}; take known answers from elsewhere"
        )
    return new.with_columns(
        source=pl.lit("gold"),
        band=pl.lit(NO_MARGIN),
        margin=pl.lit(None, pl.Float64),
        flags=pl.lit([], pl.List(pl.Enum(FLAGS))),
        is_swapped=pl.lit(False),
        probability=pl.lit(1.0),
        sampler=pl.lit("gold"),
    )


def arrange_batch(batch: pl.DataFrame, asked: pl.DataFrame, review: Review, overlap: float) -> pl.DataFrame:
    """A batch as rows of `ReviewRecord`; hashes decide which response comes first and which records get two reviewers.

    By their ids, which are hashes, the records are in random order: a reviewer who stops early has judged a
    fair sample, and nobody sees from its place why a record was chosen.
    """
    ordered = batch.rename({"pair_id": "record_id"}).sort("record_id")
    ids = ordered["record_id"]
    twice = round(overlap * len(ids)) if review.min_submitted == 1 else 0
    first = hash_ids(ids, review.seed, "response order") < 2**63
    numbers = hash_ids(ids, review.seed, f"overlap of {review.name}")
    return (
        ordered.with_columns(
            a_is_chosen=first,
            is_overlap=numbers.rank("ordinal") <= twice,
            batch=pl.lit(0 if asked.is_empty() else asked["batch"].to_numpy().max() + 1),
        )
        .with_columns(
            response_a=pl.when("a_is_chosen").then("chosen").otherwise("rejected"),
            response_b=pl.when("a_is_chosen").then("rejected").otherwise("chosen"),
        )
        .select(ReviewRecord.column_names())
        .pipe(ReviewRecord.cast)
    )


def nothing_to_ask(name: str, cfg: ChoiceConfig) -> UserError:
    if cfg.only_flagged:
        return UserError(f"'{name}' has no pair with a flag; leave --only-flagged out")
    hint = "" if cfg.include_dropped else " that was not dropped; --include-dropped takes those that were"
    return UserError(f"'{name}' has no pair{hint}; there is nothing to put before people")


def log_choice(name: str, batch: pl.DataFrame, cfg: ChoiceConfig) -> None:
    if batch.is_empty():
        kind = "pair with a flag" if cfg.only_flagged else "pair"
        log.info("review '%s': no %s is left that was not asked; nothing is added", name, kind)
        return
    counts = dict(batch["sampler"].value_counts().iter_rows())
    parts = ", ".join(f"{counts[sampler]} {sampler}" for sampler in SAMPLERS if sampler in counts)
    log.info("review '%s': %d records chosen (%s)", name, batch.height, parts)
    if (found := batch.height - counts.get("gold", 0)) < cfg.records:
        log.info("review '%s': %d records were asked for, and no more than %d are left", name, cfg.records, found)
    if cfg.only_flagged:
        log.info("review '%s': flagged pairs give no estimate for the whole dataset", name)


def read_known_pairs(path: Path, seed: int) -> pl.DataFrame:
    """`pair_id`, `messages`, `chosen` and `rejected` of each pair of a file, each once, in an order by the seed.

    `opposite_id` is the id of the pair the other way round. Raises UserError for a file that cannot be read, and for a
    row that is no pair or whose two responses are the same.
    """
    if not path.is_file():
        raise UserError(f"--gold {path}: there is no such file; it holds rows like {EXAMPLE}")
    try:
        parts = list(read_pairs(rows_config(str(path), None, seed)))
    except UserError as error:
        raise UserError(f"--gold: {error}") from error
    if bad := next((row for part in parts for row in part.dropped.iter_rows(named=True)), None):
        raise UserError(
            f"--gold {path}: {bad['reason']} in row {shown_raw(bad['raw'])!r}; a row should look like {EXAMPLE}"
        )
    pairs = pl.concat([part.rows for part in parts]).select(text_key(), "messages", "chosen", "rejected")
    undecided = pairs.filter(pl.col("chosen").str.strip_chars() == pl.col("rejected").str.strip_chars())
    if undecided.height:
        raise UserError(
            f"--gold {path}: both responses are the same in {undecided.height} rows, the first on "
            f"{undecided['messages'][0][-1]['content'][:80]!r}; neither can be known to be better"
        )
    opposite = [pair_key(messages, rejected, chosen) for _, messages, chosen, rejected in pairs.iter_rows()]
    pairs = pairs.with_columns(opposite_id=pl.Series(opposite, dtype=pl.String))
    return pairs.unique("pair_id", keep="first", maintain_order=True)
