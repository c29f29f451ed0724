"""Models by name: an embedded alias, a run, or a prefix that says which kind of engine it is."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from curate.backends.calls import Answer, Backend, Request
from curate.models import embedded_folder, file_digests, folder_digest
from curate.reward_head import HEAD_FILE, HEADS, RewardHead, head_folder
from curate.runs import find_run, newest_run, run_names
from schemas.errors import UserError
from schemas.ids import digest

OPENAI_URL = "https://api.openai.com/v1"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NIM_URL = "https://integrate.api.nvidia.com/v1"


class NamedModel:
    """A backend that is loaded at its first call: a build that reuses all its tables loads nothing."""

    def __init__(self, model: str, digest: str, load: Callable[[], Backend]) -> None:
        self.model = model
        self.digest = digest
        self._load = load
        self._backend: Backend | None = None

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, Answer]]]:
        """What the loaded backend answers."""
        if self._backend is None:
            self._backend = self._load()
        yield from self._backend.answer(requests, needed)


def named_generator(name: str, data: Path) -> NamedModel:
    """The generator called `name`; without a name the newest SFT run, else `smollm2`. `OWNER/NAME` is a hub model.

    Raises UserError for a name that is none, with the nearest that is.
    """
    if not name:
        newest = newest_run(data, "sft")
        return named_generator(newest.name if newest else "smollm2", data)
    prefix, _, rest = name.partition(":")
    if prefix in GENERATORS and rest:
        return GENERATORS[prefix](name, rest)
    if name == "smollm2":
        folder = embedded_folder(name)
        return hf_generator(name, folder, folder_digest(folder))
    if run := find_run(data, name):
        base = named_generator(run.base, data)
        folder = model_folder(run.base)
        together = digest([base.digest, digest(file_digests(run.adapter))])
        return hf_generator(name, folder, together, run.adapter)
    if HUB_ID.fullmatch(name):
        return hub_or_folder(f"hf:{name}", name)
    raise unknown("generator", name, ["smollm2", *run_names(data)], GENERATORS)


def named_scorer(name: str) -> NamedModel:
    """The scorer called `name`. Raises UserError for a name that is none, with the nearest that is."""
    prefix, _, rest = name.partition(":")
    if prefix in SCORERS and rest:
        return SCORERS[prefix](name, rest)
    if name in HEADS:
        return head_scorer(name, head_folder(name))
    if (Path(name) / HEAD_FILE).is_file():
        return head_scorer(Path(name).name, Path(name))
    raise unknown("scorer", name, HEADS, SCORERS)


def minilm() -> NamedModel:
    """The embedded sentence encoder."""
    folder = embedded_folder("minilm")
    weights = folder_digest(folder)

    def load() -> Backend:
        from curate.backends.minilm import MiniLM

        return MiniLM(weights, folder)

    return NamedModel("minilm", weights, load)


def hf_generator(name: str, folder: Path, weights: str, adapter: Path | None = None) -> NamedModel:
    """A transformers model in this process."""

    def load() -> Backend:
        from curate.backends.hf_model import HFGenerator

        return HFGenerator(name, weights, folder, adapter)

    return NamedModel(name, weights, load)


def hub_or_folder(name: str, rest: str) -> NamedModel:
    """`hf:PATH_OR_ID`."""
    folder = model_folder(name)
    return hf_generator(name, folder, folder_digest(folder))


def openai_model(name: str, rest: str) -> NamedModel:
    """`openai:MODEL`; OPENAI_BASE_URL points it elsewhere, as it does for OpenAI's own client."""
    return chat_model(name, os.environ.get("OPENAI_BASE_URL", OPENAI_URL), rest, "OPENAI_API_KEY", key_needed=True)


def url_model(name: str, rest: str) -> NamedModel:
    """`http://HOST/v1#MODEL`, with a key from PAIRWRIGHT_API_KEY where the server wants one."""
    url, _, model = name.partition("#")
    if not model:
        raise UserError("a model behind an address is named as http://HOST:PORT/v1#MODEL; '#MODEL' is missing")
    return chat_model(name, url, model, "PAIRWRIGHT_API_KEY", key_needed=False)


def chat_model(name: str, url: str, model: str, key_name: str, key_needed: bool) -> NamedModel:
    """A model behind an OpenAI-compatible endpoint."""
    refuse_user_info(url)

    def load() -> Backend:
        from curate.backends.chat_api import ChatAPI

        require_key(name, key_name, key_needed)
        return ChatAPI(name, url, model, key_name)

    return NamedModel(name, url, load)


def nim_scorer(name: str, rest: str) -> NamedModel:
    """`nim:MODEL`; NIM_BASE_URL points it at a NIM of your own, which may do without NVIDIA_API_KEY."""
    url = os.environ.get("NIM_BASE_URL", NIM_URL)
    refuse_user_info(url)

    def load() -> Backend:
        from curate.backends.reward_api import RewardAPI

        require_key(name, "NVIDIA_API_KEY", url == NIM_URL)
        return RewardAPI(name, url, rest, "NVIDIA_API_KEY")

    return NamedModel(name, url, load)


def head_scorer(name: str, folder: Path) -> NamedModel:
    """A reward head, shipped or trained by the user."""
    head = RewardHead.load(folder)

    def load() -> Backend:
        from curate.backends.head import HeadScorer

        return HeadScorer(name, head)

    return NamedModel(name, head.digest, load)


GENERATORS: dict[str, Callable[[str, str], NamedModel]] = {
    "hf": hub_or_folder,
    "openai": openai_model,
    "http": url_model,
    "https": url_model,
}
SCORERS: dict[str, Callable[[str, str], NamedModel]] = {"nim": nim_scorer}


def model_folder(name: str) -> Path:
    """The folder of an embedded model, of `hf:FOLDER`, or of the hub's newest snapshot of `hf:OWNER/NAME`."""
    if name == "smollm2":
        return embedded_folder(name)
    place = name.removeprefix("hf:")
    if Path(place).is_dir():
        return Path(place)
    if place.startswith((".", "/", "~")) or place.count("/") != 1:
        raise UserError(f"no model folder {place}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
        return Path(snapshot_download(place, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"no folder and no reachable hub model '{place}' ({reason})") from error


def require_key(name: str, key_name: str, needed: bool) -> None:
    if needed and not os.environ.get(key_name):
        raise UserError(f"{name} needs a key: set {key_name} in the environment")


def refuse_user_info(url: str) -> None:
    """A password in an address would end up in tables and logs."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"that is not an address: {error}") from error
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"put no user name, password or query in the address of {parts.hostname}; "
            "a key belongs in the environment (PAIRWRIGHT_API_KEY)"
        )


def unknown(what: str, name: str, known: Iterable[str], prefixes: Iterable[str]) -> UserError:
    """The error for a name that is none, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    forms = ", ".join([*known, *(f"{prefix}:..." for prefix in prefixes)])
    return UserError(f"no {what} '{name}'{hint} Known: {forms}" if hint else f"no {what} '{name}'; known: {forms}")
