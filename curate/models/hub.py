"""Ask the hub, and say in one sentence why it gave nothing."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from curate.flags import without_secrets
from schemas.errors import UserError


def check_endpoint() -> None:
    """Raises UserError where HF_ENDPOINT is no address; the hub's library would not even load."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        found = urlsplit(address)
        is_address = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        # The address is not repeated: it may hold a password.
        raise UserError("HF_ENDPOINT is no address of a hub, such as https://huggingface.co; mend it, or unset it")


@contextmanager
def asking_hub(missing: str, *also: type[Exception]) -> Iterator[None]:
    """Turn what the hub's library raises, and `also`, into a UserError that begins with `missing`; silence retries."""
    from huggingface_hub.errors import HfHubHTTPError

    # Of the library's HTTP client, which is another one by its version.
    client_error: type[Exception] = HfHubHTTPError.__mro__[1]
    expected: tuple[type[Exception], ...] = (client_error, OSError, ValueError, RuntimeError, *also)
    notes = logging.getLogger("huggingface_hub")
    before = notes.level
    notes.setLevel(logging.ERROR)
    try:
        yield
    # ValueError: no such name, or an answer that is no JSON; RuntimeError: a dataset that is a script.
    except expected as error:
        causes = list(chain_of(error))
        lost = [each for each in causes if isinstance(each, (ConnectionError, client_error))]
        lost = [each for each in lost if not isinstance(each, HfHubHTTPError)]
        if any("OfflineModeIsEnabled" in repr(each) or "HF_HUB_OFFLINE" in str(each) for each in causes):
            why = "it is not in the cache, and HF_HUB_OFFLINE is set"
        elif lost:
            why = f"the hub cannot be reached ({one_line(lost[-1])}); look at the network and at HF_ENDPOINT"
        else:
            why = one_line(error)
        raise UserError(f"{missing}: {why}") from error
    finally:
        notes.setLevel(before)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came of."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def one_line(error: BaseException) -> str:
    return without_secrets(" ".join((str(error).strip() or type(error).__name__).split()))[:300]
