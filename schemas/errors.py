"""Errors that reach a user as one sentence."""

from typing import ClassVar


class UserError(Exception):
    """The user's mistake: what was found, where, and what to do; `main` prints it and exits 2."""

    exit_code: ClassVar[int] = 2


class Hopeless(UserError):
    """A run that stopped itself, for nothing comes of its calls; `main` prints it and exits 1."""

    exit_code = 1

    def __init__(self, problem: str, reason: str) -> None:
        super().__init__(problem)
        self.reason = reason
        """The name of what all those calls came to."""


class ResponseError(Exception):
    """A model or a server answered something that cannot be used; the row is kept with this reason."""


class CapReached(Exception):
    """The budget or the hours of a run are used up, with all so far saved; `main` prints it and exits 3."""
