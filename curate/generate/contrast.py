"""Write one chosen and one rejected response a prompt, as JSON by one model that is asked to plant a flaw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import polars as pl

from curate.generate.flaw_checks import CHECKS, Written
from curate.generate.flaws import FLAWED_PAIR_SCHEMA, deal_flaws, flaw_instruction, raw_row, unusable_reason
from curate.ledger.entries import call_key
from curate.ledger.recorder import Recorder
from curate.models.json_answers import AnswerCut, is_placeholder, read_answer
from curate.models.reasoning import is_cut_reasoning, read_response
from curate.store.store import Part, dropped_row, make_part
from schemas.calls import Backend, CallResult, Request, Response
from schemas.errors import ResponseError
from schemas.ids import made_pair_id
from schemas.licenses import join_licenses
from schemas.names import UNKNOWN, UnpairedReason, WrittenFlaw
from schemas.stages import StageName
from schemas.tables import Pair
from schemas.wire import FlawedPairJSON, PairJSON

INSTRUCTION = """\
You write preference data. For the conversation you are given, write two responses to its last user message.
"chosen" is correct, complete and step by step where that helps.
"rejected" is plausible at first sight but contains one deliberate flaw or omission; do not point the flaw out.
Answer with one JSON object with exactly these two keys, both texts, and nothing else:
{"chosen": "...", "rejected": "..."}"""

PAIR_SCHEMA = {
    "type": "object",
    "properties": {"chosen": {"type": "string"}, "rejected": {"type": "string"}},
    "required": ["chosen", "rejected"],
    "additionalProperties": False,
}

AnyPair = TypeVar("AnyPair", bound=PairJSON)


@dataclass(frozen=True)
class ContrastConfig:
    """Everything that decides the written pairs."""

    model: str
    digest: str
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    instruction: str = INSTRUCTION
    """Instruction for a pair without a named flaw."""
    flaws: tuple[tuple[WrittenFlaw, float], ...] = ()
    """Shares of the flaws that are asked for, as `parse_flaws` gives them; none are asked for without."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the user adds to the sampling parameters, as `curate.models.call_options` reads it."""
    terms: str = UNKNOWN
    """Of the responses of the model."""
    version: int = 6
    """Raised when the same recorded calls would give other rows."""

    def flaw(self, place: int) -> WrittenFlaw | None:
        """The flaw that is asked for at the prompt of that place in its source."""
        # A power of two, so that the parts of a table share what is dealt.
        return deal_flaws(self.flaws, 1 << (place + 1).bit_length())[place] if self.flaws else None

    def request(self, messages: list[dict[str, str]], flaw: WrittenFlaw | None = None) -> Request:
        sampling = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **self.options,
        }
        instruction = flaw_instruction(flaw) if flaw else self.instruction
        asked = [{"role": "system", "content": instruction}, {"role": "user", "content": transcript(messages)}]
        return Request("generate", asked, schema=FLAWED_PAIR_SCHEMA if flaw else PAIR_SCHEMA, sampling=sampling)


def write_pairs(prompts: pl.DataFrame, cfg: ContrastConfig, *, generator: Backend, recorder: Recorder) -> Part:
    """One pair a prompt; a response that is not such a pair is dropped with its raw text.

    Where flaws are asked for, a pair is kept if the check of its flaw finds it, if its lengths fit and if its two
    responses differ; `raw` of a dropped row is then JSON with the flaw that was asked for.
    """
    flaws = [cfg.flaw(place) for place in prompts["place"]]
    requests = [
        cfg.request(messages, flaw) for messages, flaw in zip(prompts["messages"].to_list(), flaws, strict=True)
    ]
    rows = prompts.to_dicts()
    asked = [(call_key(generator, request), request.text) for request in requests]

    def why_lost(i: int, answer: CallResult) -> str | None:
        one = slice(i, i + 1)
        return next(iter(read_answers(rows[one], flaws[one], asked[one], [answer]).dropped["reason"]), None)

    part = read_answers(rows, flaws, asked, recorder.ask(generator, requests, why_lost))
    licenses = [join_licenses(license, cfg.terms) for license in part.rows["license"]]
    return part._replace(rows=part.rows.with_columns(license=pl.Series(licenses, dtype=pl.String)))


def read_answers(
    prompts: Sequence[dict[str, Any]],
    flaws: Sequence[WrittenFlaw | None],
    asked: Sequence[tuple[str, str]],
    answers: Sequence[CallResult],
) -> Part:
    """The pairs of answers, each to a prompt that was asked for a flaw, and those that are no such pairs.

    `asked` is the id of each call and the text of its request.
    """
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for prompt, flaw, (call_id, told), answer in zip(prompts, flaws, asked, answers, strict=True):
        prompt_id = prompt["prompt_id"]
        if answer.failure:
            error = answer.error or ""
            raw = raw_row(flaw, None, {"error": error}) if flaw else error
            dropped.append(dropped_row(StageName.WRITE_PAIRS, answer.failure, raw, prompt_id))
            continue
        response = answer.responses[0]
        reasoning, text = read_response(response)
        if is_cut_reasoning(text, response.finish_reason):
            raw = raw_row(flaw, None, {"reasoning": reasoning}) if flaw else reasoning
            dropped.append(dropped_row(StageName.WRITE_PAIRS, "truncated_reasoning", raw, prompt_id))
            continue
        try:
            written = parse_pair(text, FlawedPairJSON if flaw else PairJSON, told)
        except ResponseError as error:
            raw = raw_row(flaw, None, {"text": text}) if flaw else text
            dropped.append(dropped_row(StageName.WRITE_PAIRS, unread_reason(response, error), raw, prompt_id))
            continue
        if flaw and isinstance(written, FlawedPairJSON):
            reason, raw = check_pair(flaw, written, prompt["messages"])
            if reason:
                dropped.append(dropped_row(StageName.WRITE_PAIRS, reason, raw, prompt_id))
                continue
        rows.append(
            {
                "pair_id": made_pair_id(prompt_id, prompt["messages"], written.chosen, written.rejected),
                "prompt_id": prompt_id,
                "prompt_group": prompt["prompt_group"],
                "messages": prompt["messages"],
                "chosen": written.chosen,
                "rejected": written.rejected,
                "failed_score": False,
                "origin": "synthetic",
                "flaw": flaw,
                "chosen_call": call_id,
                "rejected_call": call_id,
                "license": prompt["license"],
                "is_heldout": False,
            }
        )
    return make_part(Pair, rows, dropped)


def check_pair(
    flaw: WrittenFlaw, pair: FlawedPairJSON, messages: list[dict[str, str]]
) -> tuple[UnpairedReason | None, str]:
    """The reason a written pair cannot be used, if so, and the text then kept of it."""
    conversation = "\n".join(message["content"] for message in messages)
    written = Written(conversation, pair.chosen, pair.rejected, pair.quote, pair.constraint)
    fired = CHECKS[flaw](written)
    kept = pair.model_dump() | {"named_flaw": pair.flaw}
    del kept["flaw"]
    return unusable_reason(flaw, pair.flaw, written, fired), raw_row(flaw, fired, kept)


def transcript(messages: list[dict[str, str]]) -> str:
    """A conversation as one text; a single user turn stands as it is."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def parse_pair(text: str, form: type[AnyPair], asked: str = "") -> AnyPair:
    """The last JSON object of that form in a response, unless it was copied from what was asked.

    Raises ResponseError when there is none.
    """

    def read(found: dict[str, Any]) -> AnyPair | None:
        try:
            pair = form.model_validate(found)
            # Half a surrogate pair, which JSON allows and no table holds.
            pair.model_dump_json().encode("utf-8")
        except ValueError:
            return None
        return None if is_placeholder(pair.chosen) and is_placeholder(pair.rejected) else pair

    keys = frozenset(name for name, field in form.model_fields.items() if field.is_required())
    return read_answer(text, keys, read, asked)


def unread_reason(response: Response, error: ResponseError) -> UnpairedReason:
    """The reason a response holds no pair: its limit cut it, or it ends within an object where no engine told why."""
    is_cut = isinstance(error, AnswerCut) and response.finish_reason is None
    return "truncated_json" if is_cut or response.finish_reason == "length" else "malformed_json"
