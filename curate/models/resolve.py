"""Resolve a name to a model: an embedded alias, a run, or a prefix for the kind of engine."""

import difflib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from curate.config import default_data
from curate.models.call_options import Options, flag_names, no_judge_error
from curate.models.digests import DIGESTS, file_digests, folder_digest
from curate.models.folders import model_folder
from curate.models.judge_prompts import pair_request, read_rubric, score_request
from curate.models.licenses import generator_terms
from curate.models.limits import EndpointConfig
from curate.models.remote import Remote, at_nim, at_openai, at_server, at_url
from curate.models.reward_head import HEAD_FILE, HEADS, HeadScorer, RewardHead, head_folder
from curate.store.runs import find_run, newest_run, run_names
from schemas.calls import Backend, CallResult, Request
from schemas.errors import UserError
from schemas.ids import digest
from schemas.names import UNKNOWN

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OPENAI_MODEL = re.compile(r"(chat)?gpt-?\d|o\d(-|$)|chatgpt-|codex-", re.IGNORECASE)
"""How names of OpenAI's models begin."""
JUDGES = ("judge", "judge-pairs")
"""`judge:GENERATOR` gives each response a score from 1 to 10, `judge-pairs:GENERATOR` says how likely the first of two
is the better one."""

Form = Literal["response", "pair"]


@dataclass(eq=False)
class LazyModel:
    """A backend that is loaded at its first call: a build that reuses all its tables loads nothing."""

    model: str
    digest: str
    load: Callable[[], Backend]
    is_remote: bool = False
    price_name: str | None = None
    compares_across_prompts: bool = False
    """As a scorer it puts responses to different prompts on one scale."""
    form: Form = "response"
    """Of a pair: it is shown two responses and says how likely the first is the better one."""
    rubric: str | None = None
    """The text it judges by; without one it is shown the conversation as it is."""
    options: Options = field(default_factory=dict)
    """Of a judge: what the user adds to how it is asked."""
    terms: str = UNKNOWN
    """License of what it generates."""
    _loading: threading.Lock = field(default_factory=threading.Lock, init=False)

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """The answers of the loaded backend."""
        with self._loading:
            backend = self._backend
        yield from backend.answer(requests, needed)

    @cached_property
    def _backend(self) -> Backend:
        return self.load()


@dataclass(frozen=True)
class Local:
    """A model on this machine, for this process."""

    name: str
    folder: Path
    digest: str
    """Of the model and its adapter."""
    adapter: Path | None = None

    is_remote = False
    price_name = None


@dataclass(frozen=True)
class Served:
    """A model on this machine, for a vLLM server that is started at the first call."""

    name: str
    model: str
    digest: str

    is_remote = True
    price_name = None


ModelRef = Remote | Local | Served


def resolve_generator(
    name: str, data: Path, cfg: EndpointConfig | None = None, options: Options | None = None
) -> LazyModel:
    """The generator called `name`; without a name the newest SFT run, else `smollm2`. `OWNER/NAME` is a hub model.

    Raises UserError for a name that is none, with the nearest that is, and for `options` that it does not take.
    """
    if not name:
        newest = newest_run(data, "sft")
        name = newest.name if newest else "smollm2"
    found = find_model(name, data)
    refuse_options(found, "generate", options or {})
    model = lazy_model(found, "generate", data, cfg or EndpointConfig())
    model.terms = generator_terms(found.name, found.price_name, data)
    return model


def resolve_scorer(
    name: str,
    data: Path | None = None,
    cfg: EndpointConfig | None = None,
    rubric: str = "helpful",
    options: Options | None = None,
) -> LazyModel:
    """The scorer called `name`; `rubric` is what a judge judges by, and `data` is where a run is looked for.

    Raises UserError for a name that is none, with the nearest that is, and for `options` that it does not take.
    """
    prefix, _, rest = name.partition(":")
    data, cfg, options = data or default_data(), cfg or EndpointConfig(), options or {}
    if options and prefix not in JUDGES:
        raise no_judge_error(options)
    if prefix in SCORERS and rest:
        return lazy_model(SCORERS[prefix](name, data), prefix, data, cfg)
    if prefix in JUDGES and rest:
        found = find_model(rest, data)
        refuse_options(found, prefix, options)
        return judge_scorer(prefix, read_rubric(rubric), found, data, cfg, options)
    if name in HEADS:
        return head_scorer(name, head_folder(name))
    if any((Path(name) / file).is_file() for file in (HEAD_FILE, DIGESTS)):
        return head_scorer(Path(name).name, Path(name))
    raise unknown_model("scorer", name, HEADS, [*SCORERS, *JUDGES])


def find_model(name: str, data: Path) -> ModelRef:
    """Find the generator called `name`. Raises UserError for an unknown name."""
    prefix, _, rest = name.partition(":")
    if prefix in GENERATORS and rest:
        return GENERATORS[prefix](name, data)
    if name == "smollm2":
        return local_model(name)
    if run := find_run(data, name):
        base = find_model(run.base, data)
        run.check(base.digest)
        together = digest([base.digest, digest(file_digests(run.adapter))])
        return Local(name, model_folder(run.base), together, run.adapter)
    if HUB_ID.fullmatch(name):
        return local_model(f"hf:{name}")
    raise unknown_model("generator", name, ["smollm2", *run_names(data)], GENERATORS)


def local_model(name: str) -> Local:
    """`hf:PATH_OR_ID` or `smollm2`."""
    folder = model_folder(name)
    return Local(name, folder, folder_digest(folder))


def served_model(name: str, data: Path) -> Served:
    """`vllm:MODEL`: `smollm2`, a run, a folder or a hub id. Its digest is that of the weights it is given."""
    model = name.removeprefix("vllm:")
    weights = local_model(f"hf:{model}") if Path(model).is_dir() else find_model(model, data)
    if not isinstance(weights, Local):
        raise UserError(f"{name}: vLLM serves a model of this machine or the hub, and '{model}' is elsewhere")
    return Served(name, model, weights.digest)


GENERATORS: dict[str, Callable[[str, Path], ModelRef]] = {
    "hf": lambda name, data: local_model(name),
    "vllm": served_model,
    "openai": lambda name, data: at_openai(name),
    "http": lambda name, data: at_url(name),
    "https": lambda name, data: at_url(name),
}
SCORERS: dict[str, Callable[[str, Path], ModelRef]] = {
    "nim": lambda name, data: at_nim(name),
    "classify": lambda name, data: at_server(name),
    "pooling": lambda name, data: at_server(name),
    "vllm": served_model,
    "hf": lambda name, data: local_model(name),
    "first-token": lambda name, data: replace(local_model(name.replace("first-token:", "hf:", 1)), name=name),
}


def lazy_model(found: ModelRef, role: str, data: Path, cfg: EndpointConfig) -> LazyModel:
    """A generator, or a scorer that is shown the conversation as it is."""
    load = partial(load_backend, found, found.name, role, data, cfg)
    return LazyModel(found.name, found.digest, load, found.is_remote, found.price_name)


def judge_scorer(
    role: str, rubric: str, found: ModelRef, data: Path, cfg: EndpointConfig, options: Options
) -> LazyModel:
    """A generator that judges; its digest is of the model and of all that it is asked with."""
    name, is_pairwise = f"{role}:{found.name}", role == "judge-pairs"
    asked = pair_request(rubric, [], "", "", options) if is_pairwise else score_request(rubric, [], "", options)
    return LazyModel(
        name,
        digest([found.digest, asked.messages, asked.schema, asked.sampling]),
        partial(load_backend, found, name, role, data, cfg),
        found.is_remote,
        found.price_name,
        compares_across_prompts=not is_pairwise,
        form="pair" if is_pairwise else "response",
        rubric=rubric,
        options=options,
    )


def refuse_options(found: ModelRef, role: str, options: Options) -> None:
    """Raises UserError for options of a model in this process, where they would change nothing."""
    # A judge in this process that writes its score has a limit too; one that is read by its first token has none.
    useless = {name: value for name, value in options.items() if (role, name) != ("judge", "max_tokens")}
    if useless and isinstance(found, Local):
        names = flag_names(useless, "" if role == "generate" else "judge-")
        raise UserError(f"{names}: for models behind an endpoint, and {found.name} runs in this process; leave it out")


def head_scorer(name: str, folder: Path) -> LazyModel:
    """A reward head, shipped or trained by the user."""
    head = RewardHead.load(folder)
    return LazyModel(name, head.digest, lambda: HeadScorer(name, head))


def load_backend(found: ModelRef, name: str, role: str, data: Path, cfg: EndpointConfig) -> Backend:
    """The backend called `name` that generates, or that scores as the prefix `role` says."""
    if isinstance(found, Local) and role == "judge":
        from curate.models.judge import Judge

        return Judge(name, found.digest, load_backend(found, found.name, "generate", data, cfg))
    if isinstance(found, Local):
        from curate.models.hf_generator import HFGenerator
        from curate.models.hf_scorer import FirstToken, LetterJudge, RewardModel

        forms: dict[str, Callable[..., Backend]] = {
            "generate": HFGenerator,
            "hf": RewardModel,
            "first-token": FirstToken,
            "judge-pairs": LetterJudge,
        }
        return forms[role](name, found.digest, found.folder, found.adapter)
    from curate.models.chat_api import ChatAPI
    from curate.models.classify_api import ClassifyAPI, PoolingAPI
    from curate.models.judge import JudgeAPI, PairJudgeAPI
    from curate.models.reward_api import RewardAPI

    apis: dict[str, type[ChatAPI]] = {
        "generate": ChatAPI,
        "nim": RewardAPI,
        "classify": ClassifyAPI,
        "pooling": PoolingAPI,
        "vllm": ClassifyAPI,
        "judge": JudgeAPI,
        "judge-pairs": PairJudgeAPI,
    }
    if isinstance(found, Served):
        from curate.models.vllm.server import start_managed

        return start_managed(apis[role], name, found.model, data, cfg)
    found.require_key()
    return apis[role](name, found.url, found.model, found.key_name, cfg, found.price_name)


def unknown_model(what: str, name: str, known: Iterable[str], prefixes: Iterable[str]) -> UserError:
    """The error for a name that is none, with the nearest that is."""
    known, prefixes = list(known), list(prefixes)
    near = nearest_model(name, known, prefixes)
    hint = f"; did you mean '{near}'? Known" if near else "; known"
    return UserError(f"no {what} '{name}'{hint}: {', '.join([*known, *(f'{prefix}:...' for prefix in prefixes)])}")


def nearest_model(name: str, known: list[str], prefixes: list[str]) -> str | None:
    """The name that was meant: a model of OpenAI without its prefix, a mistyped prefix, or one that is known."""
    if OPENAI_MODEL.match(name):
        return f"openai:{name}" if "openai" in prefixes else f"judge:openai:{name}"
    prefix, colon, rest = name.partition(":")
    if colon and rest and (near := difflib.get_close_matches(prefix.lower(), prefixes, n=1)):
        return f"{near[0]}:{rest}"
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)
