"""The tables that stages hand on, one row type each.

Ids are 16 hexadecimal digits of a SHA-256 over the content, with `-2`, `-3` ... appended when the
same content comes again, so a row keeps its id whatever else its source holds. Pairs of one prompt that say
the same get `.2`, `.3` ... after that.
"""

import dataframely as dy

from schemas.names import FLAWS, SCREEN_REASONS, UNPAIRED_REASONS

MESSAGES = dy.Struct({"role": dy.String(), "content": dy.String()})


class Prompt(dy.Schema):
    """One conversation that ends in a user turn."""

    prompt_id = dy.String(primary_key=True)
    messages = dy.List(MESSAGES, min_length=1)
    group = dy.String()
    """Id of the first user turn, normalised: rows of one group never lie on both sides of a split."""


class Candidate(dy.Schema):
    """One response drawn from a generator."""

    candidate_id = dy.String(primary_key=True)
    prompt_id = dy.String()
    sample_index = dy.UInt32()
    """Position among the n responses to the prompt, from 0."""
    response = dy.String()
    finish_reason = dy.String(nullable=True)
    """`stop` when the model ended by itself, `length` when it was cut, null when the server said nothing."""
    call_id = dy.String()


class Score(dy.Schema):
    """What one scorer gave one candidate; a score that failed is null with a reason."""

    candidate_id = dy.String(primary_key=True)
    scorer = dy.String(primary_key=True)
    prompt_id = dy.String()
    score = dy.Float64(nullable=True)
    reason = dy.String(nullable=True)
    call_id = dy.String()


class Pair(dy.Schema):
    """A chosen and a rejected response to one prompt. Scores are null where nothing scored them."""

    pair_id = dy.String(primary_key=True)
    prompt_id = dy.String()
    group = dy.String()
    messages = dy.List(MESSAGES, min_length=1)
    chosen = dy.String()
    rejected = dy.String()
    score_chosen = dy.Float64(nullable=True)
    score_rejected = dy.Float64(nullable=True)
    z_chosen = dy.Float64(nullable=True)
    """Score less the mean of the prompt's candidates that have text and a score, in their standard deviations
    (divided by their number); null where there are no candidates or their scores are all equal."""
    z_rejected = dy.Float64(nullable=True)
    failed_score = dy.Bool()
    """A score was expected for either side and is missing, not a number or infinite."""
    scorer = dy.String(nullable=True)
    origin = dy.Enum(["real", "synthetic"])
    """`synthetic` when a model of this build wrote the responses, `real` when the pair was imported."""
    flaw = dy.Enum(FLAWS, nullable=True)
    chosen_call = dy.String(nullable=True)
    rejected_call = dy.String(nullable=True)


class Dropped(dy.Schema):
    """A row that never became a pair, with what was found in its place."""

    stage = dy.String()
    prompt_id = dy.String(nullable=True)
    reason = dy.Enum(UNPAIRED_REASONS)
    raw = dy.String()
    """The row, response or error as it came, at most 10,000 characters."""


class Screened(dy.Schema):
    """The verdict of screening on one pair; text stays in `Pair`."""

    pair_id = dy.String(primary_key=True)
    dropped_by = dy.Enum(SCREEN_REASONS, nullable=True)
    margin = dy.Float64(nullable=True)
    duplicate_of = dy.String(nullable=True)
    """The pair that was kept in its place, for the two duplicate rules."""
    similarity = dy.Float32(nullable=True)
    """Cosine of the two prompts, for `near_duplicate_prompt`."""


class MixRow(dy.Schema):
    """One pair of a published mix, in training order."""

    row = dy.UInt32(primary_key=True)
    pair_id = dy.String()
    prompt_id = dy.String()
    group = dy.String()
    split = dy.Enum(["train", "heldout"])
    source = dy.String()
    messages = dy.List(MESSAGES, min_length=1)
    chosen = dy.String()
    rejected = dy.String()
    margin = dy.Float64(nullable=True)
    scorer = dy.String(nullable=True)
    origin = dy.Enum(["real", "synthetic"])
    flaw = dy.Enum(FLAWS, nullable=True)
