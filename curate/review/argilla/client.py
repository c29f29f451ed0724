"""REST client of an Argilla server."""

import ipaddress
import os
import random
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from curate.review.config import ServerConfig
from curate.review.server.serve import find_home, find_server
from schemas.errors import UserError

MAJOR = "2"
"""Of the versions whose requests these are; 2.8 was tried."""
ATTEMPTS = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
TIMEOUT = httpx.Timeout(120.0, connect=10.0)
PASSING = (429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""
LONGEST_DETAIL = 300


class NetworkError(UserError):
    """The server could not be reached, or went away, however often it was asked."""


def connect(cfg: ServerConfig) -> "ArgillaClient":
    """The server that is meant: `--url`, ARGILLA_API_URL, or the one that `curate review serve` runs on this data.

    Raises UserError where there is none, where it is no Argilla 2, and where it does not know the key.
    """
    own = find_server(find_home(cfg.data, cfg.home))
    url = cfg.url or os.environ.get("ARGILLA_API_URL", "").strip()
    if not url:
        if own is None:
            raise UserError(
                f"no Argilla server runs on {cfg.data}; start one with: curate review serve"
                " (or name another by --url and ARGILLA_API_KEY)"
            )
        url, key = own
    elif own and plain_url(url) == plain_url(own[0]):
        key = own[1]
    else:
        key = os.environ.get("ARGILLA_API_KEY", "").strip()
    if not key:
        raise UserError(f"{plain_url(url)} needs a key: set ARGILLA_API_KEY in the environment")
    server = ArgillaClient(plain_url(url), key)
    try:
        server.check()
    except BaseException:
        server.close()
        raise
    return server


def plain_url(url: str) -> str:
    """`url` without slashes at its end. Raises UserError for what is no address, and for one that holds a password."""
    try:
        parts = urlsplit(url.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        # not repeated: it may hold a password
        raise UserError("the address of an Argilla server looks like http://127.0.0.1:6900; this one does not")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            f"put no user name, password or query in the address of {parts.hostname}; the key belongs in the "
            "environment (ARGILLA_API_KEY)"
        )
    return url.strip().rstrip("/")


def is_on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ArgillaClient:
    """An Argilla server and the key to it."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        try:
            headers = {"X-Argilla-Api-Key": key.encode("ascii").decode()}
            # Redirects are not followed: the key would go along. A proxy does not reach this machine.
            self._client = httpx.Client(
                base_url=f"{url}/api/v1",
                headers=headers,
                timeout=TIMEOUT,
                follow_redirects=False,
                trust_env=not is_on_this_machine(url),
            )
        except UnicodeEncodeError as error:
            raise UserError("ARGILLA_API_KEY holds characters that no key has; copy it again") from error

    def __enter__(self) -> "ArgillaClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def check(self) -> None:
        """Raises UserError unless this is an Argilla 2 that knows the key."""
        # Asked once: who waits for a server that was never started waits in vain.
        answer = self._ask("GET", "/version", attempts=1)
        if answer.status_code >= 400 and answer.status_code not in PASSING:
            raise self._not_argilla()
        version = self._read(answer, "/version").get("version")
        if not isinstance(version, str):
            raise self._not_argilla()
        if version.partition(".")[0] != MAJOR:
            raise UserError(f"{self.url} runs Argilla {version[:30]}; Argilla {MAJOR} is needed")
        self.get("/me")

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._read(self._ask("GET", path, params=query), path)

    def find(self, path: str) -> dict[str, Any] | None:
        """As `get`; None where the server has no such thing."""
        answer = self._ask("GET", path)
        return None if answer.status_code == 404 else self._read(answer, path)

    def put(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._read(self._ask("PUT", path, json=body), path)

    def delete(self, path: str) -> None:
        self._read(self._ask("DELETE", path), path)

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make one thing; not repeated once it was sent, for it might then be there twice."""
        return self._read(self._ask("POST", path, attempts=1, json=body), path)

    def search(self, path: str, body: dict[str, Any], **query: Any) -> dict[str, Any]:
        """A POST that changes nothing."""
        return self._read(self._ask("POST", path, json=body, params=query), path)

    def _ask(self, method: str, path: str, *, attempts: int = ATTEMPTS, **content: Any) -> httpx.Response:
        """One answer, whatever its status; asked for again with growing waits where that may help."""
        wait_s = FIRST_WAIT_S
        for attempt in range(1, attempts + 1):
            try:
                answer = self._client.request(method, path, **content)
            except httpx.ConnectError as error:
                if attempt == attempts:
                    raise self._not_there() from error
            except httpx.TransportError as error:
                if attempt == attempts:
                    raise NetworkError(f"the connection to {self.url} was lost ({type(error).__name__})") from error
            else:
                if attempt == attempts or answer.status_code not in PASSING:
                    return answer
                wait_s = max(wait_s, read_retry_after(answer))
            time.sleep(min(wait_s, LONGEST_WAIT_S) * random.uniform(0.8, 1.2))
            wait_s *= 2
        raise AssertionError("no attempt was made")

    def _read(self, answer: httpx.Response, path: str) -> dict[str, Any]:
        """The object that was answered. Raises UserError for anything else."""
        status = answer.status_code
        if answer.is_redirect:
            there = urlsplit(answer.headers.get("location", ""))
            raise UserError(
                f"{self.url} sends requests on to {there.scheme or 'another address'}"
                f"{'://' + there.hostname if there.hostname else ''}; give the address of the server itself"
            )
        if status == 401:
            raise UserError(f"{self.url} does not know the key; check ARGILLA_API_KEY")
        if status == 403:
            raise UserError(
                f"the key has no right to {path} on {self.url}; use the key of an owner, or of an admin "
                "of the workspace"
            )
        if status in PASSING:
            raise NetworkError(f"{self.url} answers with status {status}{error_detail(answer)}")
        try:
            value = answer.json() if answer.content else {}
        except ValueError as error:
            raise self._not_argilla() from error
        if not isinstance(value, dict):
            raise self._not_argilla()
        if status >= 400:
            raise UserError(f"{self.url} refused {path} with status {status}{error_detail(answer)}")
        return value

    def _not_argilla(self) -> UserError:
        return UserError(f"what answers at {self.url} is not an Argilla server; check the address and the port")

    def _not_there(self) -> NetworkError:
        start = "; start one with: curate review serve" if is_on_this_machine(self.url) else "; check the address"
        return NetworkError(f"no server answers at {self.url}{start}")


def read_retry_after(answer: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 where it does not say."""
    try:
        return max(0.0, float(answer.headers.get("retry-after", "")))
    except ValueError:
        return 0.0


def error_detail(answer: httpx.Response) -> str:
    """The reason that the server gave, short and on one line, after a colon."""
    try:
        value = answer.json()
    except ValueError:
        return ""
    detail = value.get("detail", value.get("message")) if isinstance(value, dict) else None
    text = " ".join(str(detail or "").split())
    return f": {text[:LONGEST_DETAIL]}" if text else ""
