"""Command configs. Imports nothing heavy, so `--help` stays fast.

A field's docstring is its help text, its annotation its range. A config is checked when it is made:

    >>> BuildConfig(source="sft", top_p=2)
    curate.config.FieldError: --top-p 2 must be above 0 and at most 1
"""

import os
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval
from pydantic import ConfigDict, ModelWrapValidatorHandler, Strict, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from schemas.errors import UserError

CONFIG = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False, extra="forbid")

Int = Annotated[int, Strict()]
Count = Annotated[int, Strict(), Ge(1)]
Share = Annotated[float, Interval(ge=0, le=1)]
ExportName = Literal[
    "trl",
    "trl-implicit",
    "h4",
    "sharegpt",
    "alpaca",
    "axolotl",
    "llamafactory",
    "kto",
    "orpo",
    "openai",
    "nemo-rl",
    "ultrafeedback",
    "csv",
    "jsonl",
]
Pairing = Literal["auto", "best_worst", "best_sigma", "best_random", "adjacent"]


class FieldError(UserError):
    """A config field with an invalid value."""

    def __init__(self, field: str, value: Any, problem: str) -> None:
        shown = f"{value:g}" if isinstance(value, float) else value
        super().__init__(f"--{field.replace('_', '-')} {shown} {problem}")
        self.field, self.value, self.problem = field, value, problem


@dataclass(frozen=True, config=CONFIG)
class Config:
    """A config that names an invalid field in one sentence."""

    __pydantic_fields__: ClassVar[dict[str, FieldInfo]]

    @model_validator(mode="wrap")
    @classmethod
    def refuse(cls, values: Any, handler: ModelWrapValidatorHandler["Config"]) -> "Config":
        """Raises FieldError for the first field that is of another type or outside its range."""
        try:
            return handler(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            if name not in cls.__pydantic_fields__ or first["type"] == "missing":
                raise TypeError(f"{cls.__name__}: {first['msg']} {name}") from error
            raise FieldError(name, first["input"], requirement(cls, name, first["type"])) from error


def requirement(config: type[Config], name: str, problem: str) -> str:
    """The requirement on the value of a field, in words."""
    hint = get_type_hints(config)[name]
    kind = next(kind for kind in (hint, *get_args(hint)) if get_origin(kind) not in (Union, UnionType))
    if problem == "literal_error":
        return f"must be one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(kind) is tuple:
        return "must be a list of texts"
    if problem.endswith(("_type", "_parsing")):
        return f"must be {getattr(kind, '__name__', kind)}"
    limits = {
        name: end if isinstance(end, int) else f"{end:g}"
        for limit in annotations(get_type_hints(config, include_extras=True)[name])
        for name in ("ge", "gt", "le", "lt")
        if (end := getattr(limit, name, None)) is not None
    }
    if {"ge", "le"} <= limits.keys():
        return f"is outside {limits['ge']} to {limits['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "under"}
    return f"must be {' and '.join(f'{words[name]} {end}' for name, end in limits.items()) or 'a finite number'}"


def annotations(hint: Any) -> Iterator[Any]:
    """The annotations of a type and of the types it is made of."""
    yield from getattr(hint, "__metadata__", ())
    for part in get_args(hint):
        yield from annotations(part)


def default_data() -> Path:
    """`PAIRWRIGHT_DATA`, else `data` in the working directory."""
    return Path(os.environ.get("PAIRWRIGHT_DATA", "data"))


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DataConfig(Config):
    """The data folder of a command."""

    data: Path = field(default_factory=default_data)
    """Folder of tables, builds, mixes, runs, evals and the ledger (or set PAIRWRIGHT_DATA)."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class JudgeConfig(Config):
    """How a judge is asked."""

    judge_reasoning_effort: str = ""
    """How much a judge behind an endpoint reasons before its verdict, in the endpoint's words, such as `low`."""
    judge_extra_body: str = ""
    """JSON object added to the body of each call to a judge behind an endpoint. It is recorded with the calls: put no
    secret in it."""
    judge_max_tokens: Count | None = None
    """Longest answer of a judge, reasoning included, in tokens; by default 400 for a score and 8 for a letter, and
    4,096 for a judge that reasons first."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Thresholds(Config):
    """Thresholds of screening."""

    min_margin: Annotated[float, Ge(0)] = 0.0
    """Smallest score margin kept, in the scorer's units."""
    min_z_margin: Annotated[float, Ge(0)] = 0.0
    """Smallest score margin kept, in standard deviations of the scores of the prompt."""
    min_score: float | None = None
    """Smallest score of a chosen response that is kept; refused for scorers whose scores do not compare across
    prompts."""
    margin_quantiles: str = ""
    """LOW:HIGH, for example `0.1:0.9`: keep the pairs whose margin lies between these quantiles of the build. Very
    large margins are often the scorer's mistakes, and very small ones noise."""
    min_tokens: Annotated[Int, Ge(0)] = 3
    """Fewest words and punctuation marks of a response: fewer than three say nothing to prefer the response for."""
    max_repetition: Share = 0.4
    """Largest share of a response's 4-grams that repeat an earlier one."""
    max_echo: Share = 0.9
    """Largest share of a response that may repeat its prompt."""
    max_other_language: Share = 0.5
    """Largest share of a response in a language that the prompt is not in and does not ask for."""
    max_response_similarity: Share = 0.98
    """Drop pairs whose two responses are more similar than this (0 to 1)."""
    max_topic_gap: Annotated[float, Interval(ge=0, le=2)] = 0.5
    """A response whose cosine to another prompt is larger than to its own by this much is off topic."""
    max_jaccard: Annotated[float, Interval(ge=0.5, le=1)] = 0.8
    """Pairs whose prompt and chosen response share at least this much of their wording (Jaccard index, 0.5 to 1) are
    near-duplicates."""
    max_cosine: Annotated[float, Interval(ge=0.5, le=1)] = 0.95
    """Prompts, or prompts and chosen responses together, at least this alike (cosine, 0.5 to 1) are near-duplicates;
    under 0.5 nearly all texts are alike."""
    keep_per_cluster: Count = 1
    """Pairs kept among near-duplicates: the best by z margin, then by margin."""
    allow_degenerate_rejected: bool = False
    """Let a degenerate response (empty, truncated, repeating itself ...) be the rejected one; it is never chosen."""
    decontaminate: tuple[str, ...] = ()
    """A file of evaluation prompts that no pair may hold, beside those that come with pairwright; may be repeated."""
    redact: bool = False
    """Replace personal data and secrets in the pairs by their kind, as in [email]. The tables before that, and the
    ledger, keep the original text."""
    drop_personal_data: bool = False
    """Drop pairs with personal data or secrets instead of flagging them."""
    skip_rule: tuple[str, ...] = ()
    """A rule not to apply, by the name that the counts show; may be repeated. Without `off_topic`,
    `semantic_duplicate_prompt` and `semantic_duplicate_pair` nothing is embedded."""


@dataclass(frozen=True, config=CONFIG)
class BuildConfig(Thresholds, JudgeConfig, DataConfig):
    """Make screened pairs from the prompts or ready pairs of one source."""

    source: str
    """`sft`: best and worst of several responses of one model; `gpt`: a chosen and a rejected response written by
    one model; `samples`: the pairs that come with pairwright; else preferences from a file (.jsonl, .json, .csv,
    .tsv, .parquet or .arrow, also with .gz or .zst behind it), a folder that `save_to_disk` wrote (`FOLDER[:split]`),
    a published mix (its folder), or a hub dataset (`owner/name[/subset][@revision][:split]`)."""
    name: str = ""
    """Name of the build; by default the source, or the stem of its file."""
    prompts: str = "samples"
    """Prompts for `sft` and `gpt`: `samples`, a .txt file with one a line, or any file, folder or hub dataset that
    `--source` may name."""
    num_prompts: Count | None = None
    """Rows taken from the source, after a shuffle by `--seed`; all by default."""
    generator: str = ""
    """Model that writes responses: `smollm2`, a run, `hf:PATH`, a hub model (`owner/name`), `vllm:MODEL` (a server that
    is started for it), `openai:MODEL` or `http://HOST/v1#MODEL`; by default the newest SFT run, else `smollm2`.
    Needed for `gpt`."""
    scorer: str = ""
    """Model that scores responses: `reward-mini`, `reward-mini-b`, `nim:MODEL`, `hf:PATH_OR_ID`,
    `first-token:PATH_OR_ID`, `vllm:MODEL`, `classify:URL#MODEL`, `pooling:URL#MODEL`, `judge:GENERATOR`,
    `judge-pairs:GENERATOR` or a folder made by `train reward`; by default `reward-mini` for `sft`, and none for other
    sources."""
    rubric: str = "helpful"
    """Rubric of `judge:` and `judge-pairs:` scorers: one that comes with pairwright, or a text file."""
    columns: str = ""
    """Columns of other names, as in `prompt=q,chosen=a,rejected=b`: what pairwright reads, then the column."""
    license: str = ""
    """License of all rows of the source (of the prompts, for `sft` and `gpt`): SPDX, such as `CC-BY-4.0`,
    `LicenseRef-NAME` or `unknown`. By default that of a column `license`, else of the card of the dataset, else what is
    known of it; responses that a model writes have its terms too."""
    preference: str = ""
    """Column that says which of several responses is better, where a source has more than one such column."""
    pairing: Pairing = "auto"
    """Which responses make a pair, for `sft` and for files with several responses to a prompt: `best_worst`;
    `best_sigma`, the best and the one nearest to two standard deviations under the mean; `best_random`; `adjacent`,
    each and the next in rank. `auto` is `best_worst` below 16 responses to a prompt and `best_sigma` from there on."""
    flaws: str = ""
    """How rejected responses fail, for `gpt`: shares such as `factual=.5,truncation=.5`, or `none` for the plain
    instruction without named flaws; by default all flaws alike."""
    num_pairs: Count | None = None
    """Accepted pairs wanted, exactly: prompts are added until that many pass screening."""
    max_prompts: Count | None = None
    """Most prompts used for `--num-pairs`; by default ten for each pair."""
    num_responses: Count = 4
    """Responses drawn for each prompt."""
    temperature: Annotated[float, Interval(ge=0, le=2)] = 0.7
    """Sampling temperature; 0 takes the most likely token."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = 0.95
    """Share of probability that sampling draws from."""
    max_tokens: Count | None = None
    """Longest response, in tokens; of a model that reasons first its reasoning counts. 256 by default; for `gpt` 2048,
    which hold two responses and a flaw."""
    reasoning_effort: str = ""
    """How much a generator behind an endpoint reasons before it responds, in the endpoint's words, such as `low`."""
    extra_body: str = ""
    """JSON object added to the body of each call to a generator behind an endpoint, such as
    `{"chat_template_kwargs": {"enable_thinking": false}}`. It is recorded with the calls: put no secret in it."""
    no_probes: bool = False
    """Do not score responses that say nothing (empty, a full stop, a refusal) beside each pair. A pair whose scorer
    puts one of them above both of its responses is flagged `scorer_unreliable`."""
    seed: Int = 30
    """Seed of the shuffle and of sampling."""
    concurrency: Count = 32
    """Most calls in flight to an endpoint; fewer while it is overloaded."""
    requests_per_minute: Count | None = None
    """Most requests a minute to an endpoint."""
    tokens_per_minute: Count | None = None
    """Most tokens a minute to and from an endpoint."""
    max_failed_share: Annotated[float, Interval(gt=0, le=1)] = 0.5
    """Share of failed calls above which the build stops. It also stops where nothing comes of 15 of the first 20 calls
    of a stage for one reason; 1 lets it go on whatever comes."""
    budget: Annotated[float, Gt(0)] | None = None
    """USD that this command may spend on calls; it stops before the call that could cross it, with exit code 3."""
    max_hours: Annotated[float, Gt(0)] | None = None
    """Hours that this command may take; it starts no call that would end later, and exits with code 3."""
    prices: Path | None = None
    """TOML file of prices that come before those that pairwright knows; `prices.toml` in the data folder by default."""
    dry_run: bool = False
    """Estimate the calls, tokens, cost and time the build still needs, after a pilot, and make nothing else."""
    pilot: Annotated[Int, Interval(ge=0, le=20)] = 20
    """Prompts of the pilot of `--dry-run`, at most 20; 0 for none."""

    @property
    def most_tokens(self) -> int:
        """The most tokens that a call for responses may give out."""
        return self.max_tokens or (2048 if self.source == "gpt" else 256)


@dataclass(frozen=True, config=CONFIG)
class ScreenConfig(Thresholds, DataConfig):
    """Screen a build again under other thresholds; those not given stay as at its last screening."""

    name: str = field(metadata={"positional": True})
    """Name of the build."""
    defaults: bool = False
    """Start from the default thresholds instead of those of the last screening."""


@dataclass(frozen=True, config=CONFIG)
class MixConfig(DataConfig):
    """Put builds together into a versioned dataset with a held-out split."""

    name: str = field(metadata={"positional": True})
    """Name of the mix, for example v1."""
    add: tuple[str, ...] = ()
    """A build; NAME:SHARE for a seeded random share of it (`samples:0.5` or `samples:50%`; `samples:1` is all of it);
    or NAME:COUNT for so many pairs, a whole number above 1 (`samples:500`). Give it once for each source. Without it
    the recipe `mixes/NAME/recipe.toml` is used as it stands."""
    recipe: Path | None = None
    """File of a recipe instead of `--add`: TOML as in the folder of a mix, or the YAML of TRL (`datasets`) or of the
    alignment handbook (`dataset_mixer`), whose datasets are found among the builds."""
    where: str = ""
    """SQL condition on a pair, such as `margin > 0.5 and chosen_chars < 2000`; for each source of `--add`."""
    cap: Count | None = None
    """Most pairs of one prompt group, for each source of `--add`."""
    ratio: str = ""
    """Synthetic pairs to a real one among the training rows: `0.25` or `1:4` is one synthetic to four real ones."""
    mode: Literal["add", "replace"] = "add"
    """How `--ratio` is reached: `add` keeps all real pairs and cuts synthetic ones; `replace` keeps the number of
    rows and puts synthetic pairs in the place of real ones."""
    rows: Count | None = None
    """Training rows with `--mode replace`; by default as many as there are real ones."""
    balance: tuple[str, ...] = ()
    """Take equally many training rows of each `source`, or of each `length` of the chosen response; may be repeated."""
    heldout_share: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """Share of prompt groups kept out of training."""
    reviewed_only: bool = False
    """Only pairs whose label reviewers accepted or swapped."""
    min_verdicts: Annotated[Int, Ge(0)] = 0
    """Only pairs that at least this many reviewers judged; 1 is the same as `--reviewed-only`."""
    seed: Int = 30
    """Seed of shares, order and split."""


@dataclass(frozen=True, config=CONFIG)
class ExportConfig(DataConfig):
    """Export a mix or a build in the format of another tool, with the config that the tool needs."""

    name: str = field(metadata={"positional": True})
    """A mix or a build; of two with one name the mix, unless it is given as `mix:NAME` or `build:NAME`. Of a build
    the pairs that screening kept are exported."""
    to: ExportName
    """Format of the files."""
    out: Path | None = None
    """New folder to write; by default `exports/NAME-FORMAT` in the data folder."""
    dropped: bool = False
    """Export what a build dropped instead, with the reasons, as `csv` or `jsonl`."""


@dataclass(frozen=True, config=CONFIG)
class VerifyConfig(DataConfig):
    """Check a published mix: files, schema, counts, splits, ids; exit code 1 if anything is wrong."""

    name: str = field(metadata={"positional": True})
    """A mix of the data folder, or else the folder of a mix, wherever it lies."""


@dataclass(frozen=True, config=CONFIG)
class DiffConfig(DataConfig):
    """Compare two mixes, two builds, or two screenings of one build: settings, pairs, distributions."""

    a: str = field(metadata={"positional": True})
    """A mix, the folder of one, or a build (`mix:NAME` or `build:NAME` where both exist). `BUILD@KEY` is an earlier
    screening of a build by its table, and `BUILD@previous` the newest other one."""
    b: str = field(metadata={"positional": True})
    """What it is compared with, in the same words."""
    out: Path | None = None
    """New file for one row a pair that differs: .json, .jsonl, .csv or .parquet."""


@dataclass(frozen=True, config=CONFIG)
class PushConfig(DataConfig):
    """Publish a mix on the Hugging Face hub, private unless told otherwise."""

    name: str = field(metadata={"positional": True})
    """Name of the mix."""
    repo: str = field(metadata={"positional": True})
    """Repository of datasets, as `owner/name`; it is made where there is none. HF_TOKEN, or hf auth login, says who
    you are."""
    public: bool = False
    """Make the new repository public."""
    revision: str = "main"
    """Branch of the repository; it is made where there is none."""
    allow: tuple[str, ...] = ()
    """Publish it in spite of `personal-data` that is flagged, an `unknown-license` or a `license-conflict`; may be
    repeated."""
    dry_run: bool = False
    """Print what would be uploaded, and ask nobody."""


@dataclass(frozen=True, config=CONFIG)
class PullConfig(DataConfig):
    """Bring a published mix from the Hugging Face hub back as a build, verified by its checksums."""

    repo: str = field(metadata={"positional": True})
    """Repository of the mix, as `owner/name[@revision]`."""
    name: str = ""
    """Name of the build; by default that of the repository."""


@dataclass(frozen=True, config=CONFIG)
class ExplainConfig(DataConfig):
    """Trace one pair back to its prompt, responses, scores, model calls and screening decisions."""

    pair_id: str = field(metadata={"positional": True})
    """Id of a pair, as `curate build` and the tables print it."""


@dataclass(frozen=True, config=CONFIG)
class ShowConfig(DataConfig):
    """List builds, mixes and runs with their counts, or show one of them with its pairs."""

    name: str = field(default="", metadata={"positional": True})
    """A build or mix to show in full."""


@dataclass(frozen=True, config=CONFIG)
class DoctorConfig(JudgeConfig, DataConfig):
    """Check the machine, the models, the keys and the store, and how far a scorer can be trusted."""

    scorer: str = ""
    """Measure the noise of this scorer and save it: builds with the scorer then treat a margin that is not larger as
    a tie. Also try the scorer on responses that say nothing, are truncated, or answer another prompt."""
    rubric: str = "helpful"
    """Rubric of a judge given as `--scorer`, as for `curate build`."""
    num_pairs: Count = 60
    """Sample pairs of which `--scorer` scores both responses twice."""


@dataclass(frozen=True, config=CONFIG)
class LedgerConfig(DataConfig):
    """Show model calls and their cost by model and day; with a flag, export, compact or check the ledger."""

    export: Path | None = None
    """New Parquet file to write every call to."""
    compact: bool = False
    """Drop calls that failed or were never answered, and free their disk space."""
    check: bool = False
    """Check the file and every call in it; exit code 1 if one is wrong."""
