"""Resolve a name to a model: an embedded alias, a run, or a prefix for the kind of engine."""

import difflib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.config import default_data
from curate.models.digests import file_digests, folder_digest
from curate.models.folders import model_folder
from curate.models.judge_prompts import pair_request, read_rubric, score_request
from curate.models.limits import EndpointConfig
from curate.models.remote import Remote, at_nim, at_openai, at_server, at_url
from curate.models.reward_head import HEAD_FILE, HEADS, RewardHead, head_folder
from curate.store.runs import find_run, newest_run, run_names
from schemas.calls import Backend, CallResult, Request
from schemas.errors import UserError
from schemas.ids import digest

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Form = Literal["response", "pair"]


class LazyModel:
    """A backend that is loaded at its first call: a build that reuses all its tables loads nothing."""

    def __init__(
        self,
        model: str,
        digest: str,
        load: Callable[[], Backend],
        is_remote: bool = False,
        price_name: str | None = None,
        compares_across_prompts: bool = False,
        form: Form = "response",
        rubric: str | None = None,
    ) -> None:
        """`compares_across_prompts`: as a scorer it puts responses to different prompts on one scale.

        `form` "pair": it is shown two responses and says how likely the first is the better one. `rubric`
        is the text it judges by; without one it is shown the conversation as it is.
        """
        self.model = model
        self.digest = digest
        self.is_remote = is_remote
        self.price_name = price_name
        self.compares_across_prompts = compares_across_prompts
        self.form: Form = form
        self.rubric = rubric
        self._load = load
        self._backend: Backend | None = None
        self._loading = threading.Lock()

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """The answers of the loaded backend."""
        with self._loading:
            if self._backend is None:
                self._backend = self._load()
        yield from self._backend.answer(requests, needed)


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


def resolve_generator(name: str, data: Path, cfg: EndpointConfig | None = None) -> LazyModel:
    """The generator called `name`; without a name the newest SFT run, else `smollm2`. `OWNER/NAME` is a hub model.

    Raises UserError for a name that is none, with the nearest that is.
    """
    if not name:
        newest = newest_run(data, "sft")
        name = newest.name if newest else "smollm2"
    found = find_model(name, data)

    def load() -> Backend:
        return load_generator(found, data, cfg or EndpointConfig())

    return LazyModel(found.name, found.digest, load, found.is_remote, found.price_name)


def resolve_scorer(
    name: str, data: Path | None = None, cfg: EndpointConfig | None = None, rubric: str = "helpful"
) -> LazyModel:
    """The scorer called `name`; `rubric` is what a judge judges by, and `data` is where a run is looked for.

    Raises UserError for a name that is none, with the nearest that is.
    """
    prefix, _, rest = name.partition(":")
    data, cfg = data or default_data(), cfg or EndpointConfig()
    if prefix in SCORERS and rest:
        return SCORERS[prefix](name, data, cfg)
    if prefix in JUDGES and rest:
        return JUDGES[prefix](name, data, cfg, read_rubric(rubric))
    if name in HEADS:
        return head_scorer(name, head_folder(name))
    if (Path(name) / HEAD_FILE).is_file():
        return head_scorer(Path(name).name, Path(name))
    raise unknown_model("scorer", name, HEADS, [*SCORERS, *JUDGES])


def find_model(name: str, data: Path) -> ModelRef:
    """Find the generator called `name`. Raises UserError for an unknown name."""
    prefix, _, rest = name.partition(":")
    if prefix in GENERATORS and rest:
        return GENERATORS[prefix](name, data)
    if name == "smollm2":
        return local_generator(name, data)
    if run := find_run(data, name):
        base = find_model(run.base, data)
        together = digest([base.digest, digest(file_digests(run.adapter))])
        return Local(name, model_folder(run.base), together, run.adapter)
    if HUB_ID.fullmatch(name):
        return local_generator(f"hf:{name}", data)
    raise unknown_model("generator", name, ["smollm2", *run_names(data)], GENERATORS)


def local_generator(name: str, data: Path) -> Local:
    """`hf:PATH_OR_ID` or `smollm2`."""
    folder = model_folder(name)
    return Local(name, folder, folder_digest(folder))


def vllm_generator(name: str, data: Path) -> Served:
    """`vllm:MODEL`: `smollm2`, a run, a folder or a hub id. Its digest is that of the weights it is given."""
    model = name.removeprefix("vllm:")
    weights = local_generator(f"hf:{model}", data) if Path(model).is_dir() else find_model(model, data)
    if not isinstance(weights, Local):
        raise UserError(f"{name}: vLLM serves a model of this machine or the hub, and '{model}' is elsewhere")
    return Served(name, model, weights.digest)


GENERATORS: dict[str, Callable[[str, Path], ModelRef]] = {
    "hf": local_generator,
    "vllm": vllm_generator,
    "openai": lambda name, data: at_openai(name),
    "http": lambda name, data: at_url(name),
    "https": lambda name, data: at_url(name),
}


def load_generator(found: ModelRef, data: Path, cfg: EndpointConfig) -> Backend:
    """The backend that writes responses."""
    match found:
        case Remote():
            from curate.models.chat_api import ChatAPI

            found.require_key()
            return ChatAPI(found.name, found.url, found.model, found.key_name, cfg, found.price_name)
        case Served():
            from curate.models.vllm.server import managed_generator

            return managed_generator(found.name, found.model, data, cfg)
        case Local():
            from curate.models.hf_generator import HFGenerator

            return HFGenerator(found.name, found.digest, found.folder, found.adapter)


def nim_scorer(name: str, data: Path, cfg: EndpointConfig) -> LazyModel:
    """`nim:MODEL`. Its scores are comparable only between responses to one prompt, says its model card."""
    from_nim = at_nim(name)

    def load() -> Backend:
        from curate.models.reward_api import RewardAPI

        from_nim.require_key()
        return RewardAPI(name, from_nim.url, from_nim.model, from_nim.key_name, cfg, from_nim.price_name)

    return LazyModel(name, from_nim.digest, load, from_nim.is_remote, from_nim.price_name)


def classify_scorer(name: str, data: Path, cfg: EndpointConfig) -> LazyModel:
    """`classify:URL#MODEL` or `pooling:URL#MODEL`, a reward model on somebody's vLLM server."""
    there = at_server(name)

    def load() -> Backend:
        from curate.models.classify_api import ClassifyAPI, PoolingAPI

        api = PoolingAPI if name.startswith("pooling:") else ClassifyAPI
        return api(there.name, there.url, there.model, there.key_name, cfg, there.price_name)

    return LazyModel(there.name, there.digest, load, there.is_remote, there.price_name)


def vllm_scorer(name: str, data: Path, cfg: EndpointConfig) -> LazyModel:
    """`vllm:MODEL`, a reward model on a server of ours."""
    served = vllm_generator(name, data)

    def load() -> Backend:
        from curate.models.vllm.server import managed_scorer

        return managed_scorer(name, served.model, data, cfg)

    return LazyModel(name, served.digest, load, served.is_remote)


def reward_model(name: str, data: Path, cfg: EndpointConfig) -> LazyModel:
    """`hf:PATH_OR_ID` as a scorer, or `first-token:PATH_OR_ID`."""
    prefix, _, place = name.partition(":")
    weights = local_generator(f"hf:{place}", data)

    def load() -> Backend:
        from curate.models.hf_scorer import FirstToken, RewardModel

        form = FirstToken if prefix == "first-token" else RewardModel
        return form(name, weights.digest, weights.folder)

    return LazyModel(name, weights.digest, load)


def head_scorer(name: str, folder: Path) -> LazyModel:
    """A reward head, shipped or trained by the user."""
    head = RewardHead.load(folder)

    def load() -> Backend:
        from curate.models.reward_head import HeadScorer

        return HeadScorer(name, head)

    return LazyModel(name, head.digest, load)


SCORERS: dict[str, Callable[[str, Path, EndpointConfig], LazyModel]] = {
    "nim": nim_scorer,
    "classify": classify_scorer,
    "pooling": classify_scorer,
    "vllm": vllm_scorer,
    "hf": reward_model,
    "first-token": reward_model,
}


def judge_scorer(name: str, data: Path, cfg: EndpointConfig, rubric: str) -> LazyModel:
    """`judge:GENERATOR`: a score from 1 to 10 for each response by itself."""
    prefix, _, generator = name.partition(":")
    found = find_model(generator, data)
    name = f"{prefix}:{found.name}"

    def load() -> Backend:
        from curate.models.judge import Judge

        return Judge(name, found.digest, load_generator(found, data, cfg))

    together = judge_digest(found, score_request(rubric, [], ""))
    return LazyModel(name, together, load, found.is_remote, found.price_name, True, "response", rubric)


def pair_judge_scorer(name: str, data: Path, cfg: EndpointConfig, rubric: str) -> LazyModel:
    """`judge-pairs:GENERATOR`: how likely the first of two responses is the better one."""
    prefix, _, generator = name.partition(":")
    found = find_model(generator, data)
    name = f"{prefix}:{found.name}"

    def load() -> Backend:
        match found:
            case Remote():
                from curate.models.judge import PairJudgeAPI

                found.require_key()
                return PairJudgeAPI(name, found.url, found.model, found.key_name, cfg, found.price_name)
            case Served():
                from curate.models.judge import managed_pair_judge

                return managed_pair_judge(name, found.model, data, cfg)
            case Local():
                from curate.models.hf_scorer import LetterJudge

                return LetterJudge(name, found.digest, found.folder, found.adapter)

    together = judge_digest(found, pair_request(rubric, [], "", ""))
    return LazyModel(name, together, load, found.is_remote, found.price_name, False, "pair", rubric)


def judge_digest(found: ModelRef, asked: Request) -> str:
    """Of the model and of all that it is asked with: the rubric and the words around it."""
    return digest([found.digest, asked.messages, asked.schema, asked.sampling])


JUDGES: dict[str, Callable[[str, Path, EndpointConfig, str], LazyModel]] = {
    "judge": judge_scorer,
    "judge-pairs": pair_judge_scorer,
}


def unknown_model(what: str, name: str, known: Iterable[str], prefixes: Iterable[str]) -> UserError:
    """The error for a name that is none, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    forms = ", ".join([*known, *(f"{prefix}:..." for prefix in prefixes)])
    return UserError(f"no {what} '{name}'{hint} Known: {forms}" if hint else f"no {what} '{name}'; known: {forms}")
