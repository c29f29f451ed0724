"""Remote models: name -> address and key; refuses addresses with passwords."""

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

from schemas.errors import UserError

OPENAI_URL = "https://api.openai.com/v1"
NIM_URL = "https://integrate.api.nvidia.com/v1"
OWN_KEY = "PAIRWRIGHT_API_KEY"
AZURE_KEY = "AZURE_OPENAI_API_KEY"
AZURE_HOSTS = re.compile(r"\.(openai|cognitiveservices|services\.ai)\.azure\.(com|us|cn)$")
SECRET = re.compile(r"key|sig|token|secret|pass|pwd|auth|cred|code|jwt|session", re.IGNORECASE)
"""Names of fields of a query that hold what nobody else may read."""
LONGEST_FIELD = 32
"""A field of a query that is longer may hold a secret under any name."""


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
    price_name: str

    is_remote = True

    @property
    def digest(self) -> str:
        return self.url

    def require_key(self) -> None:
        if self.is_key_needed and not os.environ.get(self.key_name):
            raise UserError(f"{self.name} needs a key: set {self.key_name} in the environment")


def at_openai(name: str) -> Remote:
    """`openai:MODEL`; OPENAI_BASE_URL points it elsewhere, as it does for OpenAI's own client."""
    return at_service(name, "OPENAI_BASE_URL", OPENAI_URL, "OPENAI_API_KEY")


def at_nim(name: str) -> Remote:
    """`nim:MODEL`; NIM_BASE_URL points it at a NIM of your own, which may do without NVIDIA_API_KEY."""
    there = at_service(name, "NIM_BASE_URL", NIM_URL, "NVIDIA_API_KEY")
    return replace(there, is_key_needed=there.url == NIM_URL)


def at_service(name: str, variable: str, usual: str, key_name: str) -> Remote:
    """`PREFIX:MODEL` where `variable` says, else at the `usual` address; only there it has the price of that name."""
    url = plain_address(os.environ.get(variable, "").strip() or usual)
    model = name.partition(":")[2]
    return Remote(name, url, model, key_name, True, name if url == usual else f"{url}#{model}")


def at_url(name: str) -> Remote:
    """`http://HOST/v1#MODEL`, with a key from PAIRWRIGHT_API_KEY where the server wants one.

    A query such as Azure's `?api-version=2024-10-21` is kept; Azure's key is that of AZURE_OPENAI_API_KEY.
    """
    url, _, model = name.partition("#")
    if not model:
        raise UserError("a model behind an address is named as http://HOST:PORT/v1#MODEL; '#MODEL' is missing")
    url = plain_address(url)
    # The name too is part of the identity of a call.
    named = f"{url}#{model}"
    return Remote(named, url, model, *key_of(url), named)


def key_of(url: str) -> tuple[str, bool]:
    """The variable that holds the key for an address, and whether there must be one."""
    if not is_azure(url):
        return OWN_KEY, False
    if AZURE_HOSTS.search(urlsplit(url).hostname or ""):
        return AZURE_KEY, True
    # A gateway before Azure may have a key of its own.
    return AZURE_KEY if os.environ.get(AZURE_KEY) and not os.environ.get(OWN_KEY) else OWN_KEY, False


def at_server(name: str) -> Remote:
    """`classify:URL#MODEL` or `pooling:URL#MODEL`, a reward model on a vLLM server."""
    prefix, _, rest = name.partition(":")
    url, _, model = rest.partition("#")
    if not model or not url.startswith(("http://", "https://")):
        # not repeated: an address may hold a password
        raise UserError(f"a reward model on a vLLM server is named as {prefix}:http://HOST:PORT#MODEL")
    url = plain_address(url)
    named = f"{prefix}:{url}#{model}"
    return Remote(named, url, model, OWN_KEY, False, named)


def plain_address(url: str) -> str:
    """`url` without slashes at the end of its path, with which the same server would count as another.

    Raises UserError where it holds a password, or a query that may, which would end up in tables and logs.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"that is not an address: {error}") from error
    fields = parse_qsl(parts.query, keep_blank_values=True)
    may_be_secret = any(SECRET.search(name) or len(name + value) > LONGEST_FIELD for name, value in fields)
    if parts.username or parts.password or may_be_secret:
        raise UserError(
            f"put no user name, password or query in the address of {parts.hostname}, but one like "
            f"?api-version=2024-10-21; a key belongs in the environment ({key_of(url)[0]})"
        )
    base, _, query = url.partition("?")
    return f"{base.rstrip('/')}?{query}" if query else base.rstrip("/")


def is_azure(url: str) -> bool:
    """An address of Azure OpenAI, or of a gateway that stands before it."""
    parts = urlsplit(url)
    is_like_azure = "/openai/deployments/" in parts.path or "api-version=" in parts.query
    return bool(AZURE_HOSTS.search(parts.hostname or "")) or is_like_azure
