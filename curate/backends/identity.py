"""What makes two calls the same: who is asked, what, and how it is sampled."""

import json
from typing import Any

from curate.backends.calls import Backend, Request
from schemas.ids import digest


def request_content(request: Request) -> dict[str, Any]:
    """What is asked, without how it is sampled."""
    return {
        "messages": request.messages,
        "schema": request.schema,
        "first_sample": request.first_sample,
        "n": request.n,
    }


def call_identity(backend: Backend, request: Request) -> str:
    """Digest of what is asked of whom."""
    return digest([request.kind, backend.model, backend.digest, request_content(request)])


def call_key(backend: Backend, request: Request) -> str:
    """Digest of a call: its identity and its sampling parameters."""
    return digest([call_identity(backend, request), request.sampling])[:32]


def sampled_otherwise(request: Request) -> str:
    """The sampling parameters but `max_tokens`, as JSON."""
    others = {name: value for name, value in request.sampling.items() if name != "max_tokens"}
    return json.dumps(others, sort_keys=True)
