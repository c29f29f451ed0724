"""Models at an address: where a name points, which key it takes, and what an address may not hold."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from schemas.errors import UserError

OPENAI_URL = "https://api.openai.com/v1"
NIM_URL = "https://integrate.api.nvidia.com/v1"
OWN_KEY = "PAIRWRIGHT_API_KEY"


@dataclass(frozen=True)
class Remote:
    """A model behind an endpoint."""

    name: str
    url: str
    model: str
    """What the endpoint calls it."""
    key_name: str
    """Environment variable that holds the key."""
    is_key_needed: bool

    is_remote = True

    @property
    def digest(self) -> str:
        return self.url

    @property
    def price_name(self) -> str:
        return self.name

    def require_key(self) -> None:
        if self.is_key_needed and not os.environ.get(self.key_name):
            raise UserError(f"{self.name} needs a key: set {self.key_name} in the environment")


def at_openai(name: str) -> Remote:
    """`openai:MODEL`; OPENAI_BASE_URL points it elsewhere, as it does for OpenAI's own client."""
    url = without_secrets(os.environ.get("OPENAI_BASE_URL", OPENAI_URL))
    return Remote(name, url, name.partition(":")[2], "OPENAI_API_KEY", True)


def at_nim(name: str) -> Remote:
    """`nim:MODEL`; NIM_BASE_URL points it at a NIM of your own, which may do without NVIDIA_API_KEY."""
    url = without_secrets(os.environ.get("NIM_BASE_URL", NIM_URL))
    return Remote(name, url, name.partition(":")[2], "NVIDIA_API_KEY", url == NIM_URL)


def at_url(name: str) -> Remote:
    """`http://HOST/v1#MODEL`, with a key from PAIRWRIGHT_API_KEY where the server wants one."""
    url, _, model = name.partition("#")
    if not model:
        raise UserError("a model behind an address is named as http://HOST:PORT/v1#MODEL; '#MODEL' is missing")
    return Remote(name, without_secrets(url), model, OWN_KEY, False)


def at_server(name: str) -> Remote:
    """`classify:URL#MODEL` or `pooling:URL#MODEL`, a reward model on a vLLM server."""
    prefix, _, rest = name.partition(":")
    url, _, model = rest.partition("#")
    if not model or not url.startswith(("http://", "https://")):
        # not repeated: an address may hold a password
        raise UserError(f"a reward model on a vLLM server is named as {prefix}:http://HOST:PORT#MODEL")
    return Remote(name, without_secrets(url), model, OWN_KEY, False)


def without_secrets(url: str) -> str:
    """`url`; raises UserError where it holds a password, which would end up in tables and logs."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"that is not an address: {error}") from error
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"put no user name, password or query in the address of {parts.hostname}; "
            f"a key belongs in the environment ({OWN_KEY})"
        )
    return url
