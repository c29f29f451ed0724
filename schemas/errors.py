"""Errors that reach a user as one sentence."""


class UserError(Exception):
    """The user's mistake: what was found, where, and what to do; `main` prints it and exits 2."""


class ResponseError(Exception):
    """A model or a server answered something that cannot be used; the row is kept with this reason."""


class CapReached(Exception):
    """The budget or the hours of a run are used up, with all so far saved; `main` prints it and exits 3."""
