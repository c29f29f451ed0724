"""Tables that stages hand on, one row type each.

Ids are 16 hexadecimal digits of a SHA-256 over the content, with `-2`, `-3` ... appended when the
same content comes again, so a row keeps its id whatever else its source holds. Pairs of one prompt that say
the same get `.2`, `.3` ... after that.
"""

import dataframely as dy

from schemas.names import (
    ANSWER_STATUSES,
    BETTER,
    FLAGS,
    FLAWS,
    ORIGINS,
    PERSONAL_DATA,
    SAMPLERS,
    SCREEN_REASONS,
    UNPAIRED_REASONS,
    VERDICTS,
)

MESSAGES = dy.Struct({"role": dy.String(), "content": dy.String()})


class Prompt(dy.Schema):
    """One conversation that ends in a user turn."""

    prompt_id = dy.String(primary_key=True)
    place = dy.UInt32()
    """Position among the prompts of the shuffled source, from 0."""
    messages = dy.List(MESSAGES, min_length=1)
    prompt_group = dy.String()
    """Id of the first user turn, normalized: rows of one group never lie on both sides of a split."""
    license = dy.String()
    """SPDX expression of the license of its source, or `unknown`."""


class Candidate(dy.Schema):
    """One response drawn from a generator."""

    candidate_id = dy.String(primary_key=True)
    prompt_id = dy.String()
    sample_index = dy.UInt32()
    """Position among the n responses to the prompt, from 0."""
    response = dy.String()
    """Without its reasoning."""
    reasoning = dy.String(nullable=True)
    """What the model wrote before its response, null where it wrote none or did not show it."""
    finish_reason = dy.String(nullable=True)
    """`stop` when the model ended by itself, `length` when it was truncated, null when the server gave no reason."""
    call_id = dy.String()


class Score(dy.Schema):
    """The score of one candidate by one scorer; a score that failed is null with a reason."""

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
    prompt_group = dy.String()
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
    origin = dy.Enum(ORIGINS)
    """`synthetic` when a model of this build wrote the responses, `real` when the pair was imported; of a pair from a
    published mix, what it was there."""
    flaw = dy.Enum(FLAWS, nullable=True)
    chosen_call = dy.String(nullable=True)
    rejected_call = dy.String(nullable=True)
    chosen_finish = dy.String(nullable=True)
    """Why the model stopped, as in `Candidate.finish_reason`; null where no model of the build wrote the response
    by itself."""
    rejected_finish = dy.String(nullable=True)
    chosen_reasoning = dy.String(nullable=True)
    """What the model wrote before this response, where it was sampled; no part of what is trained on."""
    rejected_reasoning = dy.String(nullable=True)
    tools = dy.String(nullable=True)
    """JSON list of the tools that the conversation may call; null for none."""
    license = dy.String()
    """SPDX expression of the terms of the prompt and the responses, or `unknown`."""
    is_heldout = dy.Bool()
    """Its source holds it out, as the test rows of a published mix: it is a training row in no mix."""


class RecordedVerdict(dy.Schema):
    """One vote of a person or a judge on a pair, as the file it was imported from has it."""

    pair_id = dy.String(primary_key=True)
    judge = dy.String(primary_key=True)
    """The column of the vote."""
    order = dy.Enum(["chosen_first", "rejected_first"])
    """Which of the two responses the row has first."""
    verdict = dy.Enum(["chosen", "rejected", "tie"])
    """Which response the vote prefers; `chosen` is the one that the pair has as chosen."""


class Dropped(dy.Schema):
    """A row that never became a pair, with its raw text and the reason."""

    stage = dy.String()
    prompt_id = dy.String(nullable=True)
    reason = dy.Enum(UNPAIRED_REASONS)
    raw = dy.String()
    """The row, response or error as JSON, at most 10,000 characters: what came as JSON stands as it came, other text as
    a JSON string, and long texts in it are cut."""


class Measured(dy.Schema):
    """Features of a pair from its text and scores, whatever the thresholds; one row a pair, in the same order."""

    pair_id = dy.String(primary_key=True)
    prompt_id = dy.String()
    origin = dy.Enum(ORIGINS)
    flaw = dy.Enum(FLAWS, nullable=True)
    failed_score = dy.Bool()
    score_chosen = dy.Float64(nullable=True)
    margin = dy.Float64(nullable=True)
    z_margin = dy.Float64(nullable=True)
    prompt_hash = dy.UInt64()
    """Of the conversation, normalized as `curate.screen.text.measure` says."""
    chosen_hash = dy.UInt64()
    """Of conversation and chosen response."""
    pair_hash = dy.UInt64()
    """Of conversation and both responses."""
    is_identical = dy.Bool()
    """Both responses are equal but for case and spacing."""
    response_similarity = dy.Float32()
    """How alike the two responses are, from 0 to 1."""
    chosen_empty = dy.Bool()
    rejected_empty = dy.Bool()
    chosen_tokens = dy.UInt32()
    """Words and punctuation marks."""
    rejected_tokens = dy.UInt32()
    chosen_is_short_answer = dy.Bool()
    """A few words: numbers, words of the prompt, or in a script without blanks. Short, and yet an answer."""
    rejected_is_short_answer = dy.Bool()
    chosen_cut = dy.Enum(["no", "maybe", "yes"])
    """Whether the response stops without an end."""
    rejected_cut = dy.Enum(["no", "maybe", "yes"])
    chosen_broken = dy.Bool()
    rejected_broken = dy.Bool()
    chosen_leaked = dy.Bool()
    rejected_leaked = dy.Bool()
    chosen_echo_share = dy.Float32()
    """Share of the response that repeats the prompt, from 0 to 1."""
    rejected_echo_share = dy.Float32()
    chosen_repetition_share = dy.Float32()
    """Share of its 4-grams that repeat an earlier one."""
    rejected_repetition_share = dy.Float32()
    chosen_foreign_share = dy.Float32()
    """Share of the response in a language that the prompt neither is in nor asks for; 0 where it is unknown."""
    rejected_foreign_share = dy.Float32()
    chosen_refuses = dy.Bool()
    rejected_refuses = dy.Bool()
    personal = dy.List(dy.Enum(PERSONAL_DATA))
    """Kinds of personal data in the pair, in the order of the names."""


class Probed(dy.Schema):
    """The score of a response that says nothing, by the scorer of a pair."""

    pair_id = dy.String(primary_key=True)
    probe = dy.String(primary_key=True)
    score = dy.Float64(nullable=True)
    reason = dy.String(nullable=True)
    call_id = dy.String()


class Contaminated(dy.Schema):
    """A pair that holds a part of an evaluation prompt; pairs without one have no row."""

    pair_id = dy.String(primary_key=True)
    against = dy.String()
    """Name of the file with the prompt it shares most with."""
    prompt = dy.UInt32()
    """Place of that prompt in the file, from 0."""
    has_13gram = dy.Bool()
    """13 words in a row are shared."""
    coverage = dy.Float32()
    """Share of the 8-grams of the prompt that the pair holds, 1 for a shorter prompt that it is equal to."""


class Similar(dy.Schema):
    """Two similar texts: the worse one may be dropped as a near-duplicate of the other."""

    left = dy.UInt32(primary_key=True)
    """Row of a pair, from 0; of pairs with the same text the first one stands for all."""
    right = dy.UInt32(primary_key=True)
    """Row of a later pair."""
    kind = dy.Enum(["text", "prompt", "pair"], primary_key=True)
    """What is compared: the words of prompt and chosen response, the vectors of the prompts, or those of both."""
    similarity = dy.Float32()
    """For `text` the smaller Jaccard index of the words of both sides, prompt and chosen response, as
    `curate.screen.similar.lexical` says; else the cosine. Rounded to 4 digits."""


class Topicality(dy.Schema):
    """Cosines of the responses of a pair to prompts; one row a pair, in the same order. Null without a vector."""

    pair_id = dy.String(primary_key=True)
    chosen_cos_prompt = dy.Float32(nullable=True)
    """Cosine of the response to its prompt."""
    chosen_cos_other_prompt = dy.Float32(nullable=True)
    """Largest cosine of the response to another prompt of the build, unlike its own."""
    rejected_cos_prompt = dy.Float32(nullable=True)
    rejected_cos_other_prompt = dy.Float32(nullable=True)


class EvalProximity(dy.Schema):
    """Proximity of the prompt of a pair to the evaluation prompts; one row a pair, in the same order."""

    pair_id = dy.String(primary_key=True)
    max_cos_eval = dy.Float32(nullable=True)
    """Largest cosine to an evaluation prompt; null where a vector is missing."""


class Screened(dy.Schema):
    """The verdict of screening on one pair; all that led to it stays in the tables before."""

    pair_id = dy.String(primary_key=True)
    dropped_by = dy.Enum(SCREEN_REASONS, nullable=True)
    flags = dy.List(dy.Enum(FLAGS))


class ReviewRecord(dy.Schema):
    """One record sent for review: what reviewers see, and what stays with us."""

    record_id = dy.String(primary_key=True)
    """The id of the pair; of a record with a known answer an id of the same form, from its content."""
    sampler = dy.Enum(SAMPLERS)
    probability = dy.Float64()
    """With which the pair came into the audit; 1 where it was picked for what it is."""
    source = dy.String()
    """The build it is from; `gold` for a known answer."""
    band = dy.String()
    """Its margin among those of its source, such as "0.12 to 0.31", or "none"."""
    margin = dy.Float64(nullable=True)
    flags = dy.List(dy.Enum(FLAGS))
    is_overlap = dy.Bool()
    """Two reviewers are to judge it."""
    a_is_chosen = dy.Bool()
    """Response A is the chosen one, or the better one where the answer is known."""
    is_swapped = dy.Bool()
    """Reviewers had swapped its label before it was asked."""
    batch = dy.UInt32()
    """Which push it came with, from 0."""
    messages = dy.List(MESSAGES, min_length=1)
    response_a = dy.String()
    response_b = dy.String()


class Annotation(dy.Schema):
    """One reviewer's answer on one record, in one version: a later one of the same reviewer supersedes it."""

    record_id = dy.String(primary_key=True)
    reviewer = dy.String(primary_key=True)
    """A pseudonym; who it is stays with the server."""
    answered_at = dy.Datetime(primary_key=True, time_unit="us", time_zone="UTC")
    status = dy.Enum(ANSWER_STATUSES)
    better = dy.Enum(BETTER, nullable=True)
    sure = dy.UInt8(nullable=True)
    """From 1, a guess, to 3, certain."""
    wrong = dy.List(dy.Enum(FLAWS))
    """How the worse response fails."""
    note = dy.String(nullable=True)


class Verdict(dy.Schema):
    """The verdict of all reviewers on one pair."""

    pair_id = dy.String(primary_key=True)
    verdict = dy.Enum(VERDICTS, nullable=True)
    """About the pair as it was made, whatever was swapped since; null where no verdict has more than half of the
    answers."""
    answers = dy.UInt32()
    reviewers = dy.List(dy.String())
    """Pseudonyms of those whose answer the verdict is, sorted."""


class MixRow(dy.Schema):
    """One pair of a published mix, as trainers take it: the prompt and both sides are lists of messages.

    Rows lie in training order.
    """

    prompt = dy.List(MESSAGES, min_length=1)
    chosen = dy.List(MESSAGES, min_length=1)
    rejected = dy.List(MESSAGES, min_length=1)
    tools = dy.String(nullable=True)
    """JSON list of the tools that the conversation may call; null for none."""
    prompt_id = dy.String()
    prompt_group = dy.String()
    pair_id = dy.String()
    source = dy.String()
    """The build it is from."""
    score_chosen = dy.Float64(nullable=True)
    score_rejected = dy.Float64(nullable=True)
    scorer = dy.String(nullable=True)
    origin = dy.String(check=lambda column: column.is_in(ORIGINS))
    flaw = dy.String(nullable=True, check=lambda column: column.is_in(FLAWS))
    license = dy.String()


class MixLineage(dy.Schema):
    """What is known of a pair of a mix beside its row; training rows first, in their order."""

    pair_id = dy.String()
    split = dy.String(check=lambda column: column.is_in(["train", "heldout"]))
    source = dy.String()
    z_chosen = dy.Float64(nullable=True)
    z_rejected = dy.Float64(nullable=True)
    chosen_call = dy.String(nullable=True)
    rejected_call = dy.String(nullable=True)
    chosen_finish = dy.String(nullable=True)
    rejected_finish = dy.String(nullable=True)
    reasoning_chosen = dy.String(nullable=True)
    """What the model wrote before the response."""
    reasoning_rejected = dy.String(nullable=True)
    flags = dy.List(dy.String())
    verdict = dy.String(nullable=True)
    """Of the reviewers, as in `Verdict`."""
    answers = dy.UInt32()
    """Of reviewers."""
