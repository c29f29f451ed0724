"""The address that calls of an endpoint go to: its URL and key, the proxy on the way, and redirects."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from curate.models.remote import is_azure
from curate.models.reply_body import mask_key
from schemas.errors import UserError
from schemas.visible import visible_line

MOST_REDIRECTS = 3
REDIRECTS = {301, 302, 303, 307, 308}
KEEPS_METHOD = {307, 308}
LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1|0\.0\.0\.0")


@dataclass(frozen=True)
class HttpReply:
    """A reply of a server, without the key that it may have sent back."""

    status: int
    retry_after: str | None
    raw: bytes


class Address:
    """Where the calls of one endpoint go."""

    def __init__(self, name: str, url: str, key_name: str) -> None:
        self.name = name
        self.url = url
        self.key_name = key_name
        self.proxy, self._proxy_name = environment_proxy(url)
        self._is_azure = is_azure(url)

    def key(self) -> str:
        """The key, without the line break that a file may have left at its end."""
        key = os.environ.get(self.key_name, "").strip()
        if not key.isprintable():
            raise UserError(f"{self.key_name} holds a line break or another sign that no key has; set it again")
        return key

    @property
    def shown_proxy(self) -> str:
        """The proxy without its password, and the variable that names it."""
        assert self.proxy is not None
        return f"the proxy {self.proxy.with_user(None)} of {self._proxy_name}"

    def is_proxy(self, error: aiohttp.ClientConnectorError) -> bool:
        """Whether it is the proxy that there is no connection to; one without an address is named as a host."""
        return isinstance(error, aiohttp.ClientProxyConnectionError) or (
            self.proxy is not None and error.host == self.proxy.host
        )

    async def post(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any], key: str) -> HttpReply:
        """The reply to `body`. Raises UserError where the server has moved or a proxy refuses."""
        url = call_url(self.url, path)
        headers = {} if not key else {"api-key": key} if self._is_azure else {"Authorization": f"Bearer {key}"}
        for _ in range(MOST_REDIRECTS + 1):
            # Redirects are not left to aiohttp, which follows them to any host, and netrc files are not read.
            async with session.post(url, json=body, headers=headers, proxy=self.proxy, allow_redirects=False) as reply:
                raw = mask_key(await reply.read(), key)
                if reply.status == 407 and self.proxy:
                    raise self.proxy_refusal(reply.status)
                moved = reply.headers.get("Location") if reply.status in REDIRECTS else None
                if moved is None:
                    return HttpReply(reply.status, reply.headers.get("Retry-After"), raw)
                url = self._follow(reply.url, moved, reply.status)
        raise UserError(f"{self.name}: {self.url} redirects again and again; give the address where it answers")

    def _follow(self, here: URL, moved: str, status: int) -> URL:
        """The place a redirect names, where the same call may be made with the same key."""
        try:
            there = here.join(URL(moved))
        except ValueError as error:
            raise UserError(f"{self.name}: {self.url} redirects to no address (HTTP {status})") from error
        place = visible_line(str(there.with_user(None).with_query(None).with_fragment(None)), 200)
        said = f"{self.name}: {self.url} redirects to {place} (HTTP {status})"
        is_same_port = here.port == there.port or (here.is_default_port() and there.is_default_port())
        if there.host != here.host or not is_same_port:
            raise UserError(f"{said}, another server, which gets no call and no key; if it is the right one, name it")
        if there.scheme != "https" and there.scheme != here.scheme:
            raise UserError(f"{said}, where the key could be read on the way; name an address with https")
        if status not in KEEPS_METHOD:
            raise UserError(f"{said}, which no call survives; name the address that it redirects to")
        return there

    def proxy_refusal(self, status: int) -> UserError:
        """The error for a proxy that lets no call through."""
        cure = "name the host in NO_PROXY where it needs no proxy"
        if status == 407:
            cure = f"write its user name and password there, as in http://USER:PASSWORD@HOST:PORT, or {cure}"
        return UserError(f"{self.name}: {self.shown_proxy} passes no call on (HTTP {status}); {cure}")


@lru_cache(maxsize=64)
def call_url(url: str, path: str) -> URL:
    """`path` after that of `url`, the query of `url` after both. Raises InvalidURL for what is no address."""
    base, _, query = url.partition("?")
    try:
        return URL(f"{base}{path}?{query}" if query else base + path)
    except ValueError as error:
        raise aiohttp.InvalidURL(url) from error


def environment_proxy(url: str) -> tuple[URL | None, str]:
    """The proxy that the environment names for an address, and the variable; none for this machine and NO_PROXY."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None, ""
    if LOOPBACK.fullmatch(host) or proxy_bypass(f"{host}:{port}" if port else host):
        return None, ""
    found, name = getproxies().get(parts.scheme), f"{parts.scheme.upper()}_PROXY"
    if not found:
        return None, ""
    try:
        proxy = URL(found if "://" in found else f"http://{found}")
        is_usable = proxy.scheme in ("http", "https") and bool(proxy.host)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise UserError(
            f"{name} names no http or https proxy; write it as http://HOST:PORT, or name {host} in NO_PROXY"
        )
    return proxy, name
