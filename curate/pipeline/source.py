"""Kinds of source: responses sampled by a model (`sft`), pairs written by a model (`gpt`), or files of pairs.

Every other file of the pipeline asks here, so that a new kind of source is one entry of `KINDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from curate.config import BuildConfig
from curate.files import asset
from curate.generate.flaws import parse_flaws
from curate.models.licenses import parse_license
from curate.pipeline.pairing import policy_for
from curate.pipeline.rounds import flaw_quotas
from curate.sources.fields import parse_columns, plain_name
from curate.sources.licenses import find_license
from curate.sources.rows import RowsConfig, rows_config
from schemas.names import WrittenFlaw

PROMPTS_PER_PAIR = 10
"""Most prompts for each pair of `--num-pairs`, unless `--max-prompts` says otherwise."""


@dataclass(frozen=True)
class SourceKind:
    """One kind of source."""

    is_generated: bool = False
    """A generator writes its responses, to prompts; else it holds ready pairs."""
    is_sampled: bool = False
    """Several responses are drawn for each prompt, and paired by their scores."""
    default_scorer: str = ""
    """Scorer of builds that name none."""
    samples: str = "pairs.jsonl"
    """File that comes with pairwright."""
    scored_together: Callable[[BuildConfig], int] = lambda cfg: 2
    """Responses of a prompt that are scored beside each other."""
    pairs_per_prompt: Callable[[BuildConfig], int] = lambda cfg: 1
    """The most pairs that one prompt can give."""


KINDS = {
    "sft": SourceKind(
        is_generated=True,
        is_sampled=True,
        default_scorer="reward-mini",
        samples="prompts.jsonl",
        scored_together=lambda cfg: cfg.num_responses,
        pairs_per_prompt=lambda cfg: (
            cfg.num_responses - 1 if policy_for(cfg.pairing, cfg.num_responses) == "adjacent" else 1
        ),
    ),
    "gpt": SourceKind(is_generated=True, samples="prompts.jsonl"),
}
"""`--source` -> its kind; anything else names a file or dataset of ready pairs."""
READY = SourceKind()


def kind_of(cfg: BuildConfig) -> SourceKind:
    """The kind of the build's source."""
    return KINDS.get(cfg.source, READY)


def source_rows(cfg: BuildConfig) -> RowsConfig:
    """The rows of a file, a hub dataset or, for `samples`, what comes with pairwright."""
    kind = kind_of(cfg)
    spec = cfg.prompts if kind.is_generated else cfg.source
    path = str(asset("samples", kind.samples)) if spec == "samples" else spec
    rows = rows_config(path, cfg.num_prompts, cfg.seed)
    license = parse_license(cfg.license) if cfg.license else find_license(rows.path, cfg.data)
    return replace(
        rows,
        columns=parse_columns(cfg.columns),
        preference=plain_name(cfg.preference),
        license=license,
        is_license_given=bool(cfg.license),
    )


def most_prompts(cfg: BuildConfig) -> int | None:
    """The most prompts that the build may use, where pairs or prompts are counted."""
    if cfg.num_pairs:
        return cfg.max_prompts or PROMPTS_PER_PAIR * cfg.num_pairs
    return cfg.num_prompts


def requested_flaws(cfg: BuildConfig) -> tuple[tuple[WrittenFlaw, float], ...]:
    """Shares of the flaws that the writer of pairs is asked for; none for other sources."""
    kind = kind_of(cfg)
    return tuple(parse_flaws(cfg.flaws).items()) if kind.is_generated and not kind.is_sampled else ()


def flaw_counts(cfg: BuildConfig) -> tuple[tuple[str, int], ...]:
    """Flaw -> accepted pairs of it among those of `--num-pairs`."""
    shares = requested_flaws(cfg)
    return flaw_quotas(shares, cfg.num_pairs) if shares and cfg.num_pairs else ()
