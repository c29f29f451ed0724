"""Sample responses of both sides to the evaluation prompts, and score them side by side.

Sampling and scoring are curate's own stages, so every call is in the ledger: an interrupted
evaluation goes on from there, and one that is repeated asks nobody.

Both sides are sent the same seed with each prompt. What it fixes depends on the engine. In this
process a batch of prompts has one seed, made from what is asked and not of whom: two models of one
tokenizer draw with the same random numbers, prompt by prompt and token by token, so an adapter that does
nothing gives the baseline's very responses. A server's sampling is recorded, not repeated, and no
seed is sent: there the two sides are independent draws, which the interval allows for.
"""

import polars as pl

from curate.files import asset
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.score.score import ScoreConfig, score_responses
from curate.sources.prompts import read_prompts
from curate.sources.rows import rows_config
from curate.store.session import Session
from curate.store.store import Store, Table
from eval.config import EvalConfig
from schemas.calls import Backend
from schemas.stages import StageName
from schemas.tables import Candidate, Prompt, Score

NUM_PROMPTS = 200


def eval_prompts(cfg: EvalConfig, store: Store) -> Table:
    """The prompts to answer, in the order of the shuffle."""
    path = str(asset("samples", "eval_prompts.jsonl")) if cfg.prompts == "samples" else cfg.prompts
    default = None if cfg.responses_only else NUM_PROMPTS
    rows = rows_config(path, default if cfg.num_prompts is None else cfg.num_prompts, cfg.seed)
    return store.read(StageName.READ_PROMPTS, read_prompts, rows, writes=Prompt)


def sample_side(cfg: EvalConfig, session: Session, prompts: Table, generator: Backend, seed: int) -> Table:
    """One response a prompt."""
    drawn = SampleConfig(generator.model, generator.digest, 1, cfg.temperature, cfg.top_p, cfg.max_tokens, seed)
    return session.store.map(
        StageName.SAMPLE_RESPONSES,
        sample_responses,
        drawn,
        prompts,
        writes=Candidate,
        generator=generator,
        recorder=session.recorder,
    )


def score_side(session: Session, prompts: Table, candidates: Table, judge: Backend) -> Table:
    """One score a response."""
    judged = ScoreConfig(judge.model, judge.digest)
    return session.store.map(
        StageName.SCORE_RESPONSES,
        score_responses,
        judged,
        prompts,
        candidates,
        writes=Score,
        scorer=judge,
        recorder=session.recorder,
    )


def side_by_side(prompts: Table, run: Table, baseline: Table) -> pl.DataFrame:
    """One row a prompt: prompt_id, messages, response_run, response_baseline, and `unjudged`, null or why not.

    A prompt that comes again is not judged again: it would count one piece of evidence twice.
    """
    is_repeated = pl.col("prompt_id").str.contains("-", literal=True)
    run_reason, baseline_reason = pl.col("reason_run"), pl.col("reason_baseline")
    unjudged = (
        pl.when(is_repeated)
        .then(pl.lit("repeated_prompt"))
        .when(run_reason == baseline_reason)
        .then(pl.lit("both: ") + run_reason)
        .when(run_reason.is_not_null())
        .then(pl.lit("run: ") + run_reason)
        .otherwise(pl.lit("baseline: ") + baseline_reason)
    )
    return (
        prompts.scan()
        .select("prompt_id", "messages")
        .join(side_responses(run, "run"), on="prompt_id", how="left", maintain_order="left")
        .join(side_responses(baseline, "baseline"), on="prompt_id", how="left", maintain_order="left")
        .with_columns(unjudged=unjudged)
        .drop("reason_run", "reason_baseline")
        .collect()
    )


def add_scores(paired: pl.DataFrame, run: Table, baseline: Table) -> pl.DataFrame:
    """Adds score_run and score_baseline, null where the judge failed."""
    for side, scores in (("run", run), ("baseline", baseline)):
        found = scores.scan().select("prompt_id", pl.col("score").alias(f"score_{side}")).collect()
        paired = paired.join(found, on="prompt_id", how="left", maintain_order="left")
    return paired


def side_responses(candidates: Table, side: str) -> pl.LazyFrame:
    """prompt_id, response_SIDE and reason_SIDE: a prompt has one or the other.

    A response whose limit was used up before it began, as by reasoning, is none that a judge could compare.
    """
    is_cut = (pl.col("finish_reason") == "length").fill_null(False) & (pl.col("response").str.strip_chars() == "")
    texts = candidates.scan().select(
        "prompt_id",
        pl.when(~is_cut).then("response").alias(f"response_{side}"),
        pl.when(is_cut).then(pl.lit("truncated_reasoning")).alias(f"reason_{side}"),
    )
    reasons = candidates.scan_dropped().select("prompt_id", pl.col("reason").cast(pl.String).alias(f"reason_{side}"))
    return pl.concat([texts, reasons], how="diagonal")
