"""Formats of other tools that pairs are exported in: one table, an entry a format.

What a format cannot hold is left out with a reason and counted; nothing is made up to make it fit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from curate.mix.export import records, usage
from curate.mix.export.records import FACTS, REASONING, SIDES, Record, Unheld
from curate.mix.export.rows import ExportRow, Messages
from curate.mix.export.usage import Usage, Written
from schemas.tool_turns import CallUnread

Kind = Literal["parquet", "jsonl", "csv"]
Holds = Literal["system", "turns", "tools", "reasoning", "scores"]

UNHELD = {
    "no_prompt": "a prompt that says nothing",
    "system_message": "a system message",
    "several_turns": "a conversation of several turns",
    "turn_order": "turns that do not alternate between both sides",
    "tools": "tools or their calls",
    "unread_tool_call": "a call of a tool that is not the JSON of a call",
    "unfindable_response": "a response that the tool would not find in the text it renders",
    "no_scores": "a missing score",
    "scores_disagree": "scores that do not prefer the chosen response, and only scores say which one it is",
}
"""Why a row is left out, and what it has that the format does not hold."""

DETAILS = {
    "reasoning": "reasoning",
    "scores": "scores",
    "white_space": "white space around responses, which the tool needs trimmed",
}
"""What of a row may be left behind, while the row itself is exported."""


@dataclass(frozen=True)
class ExportFormat:
    """One format."""

    about: str
    """Which tool reads it, in words."""
    kind: Kind
    records: Callable[[ExportRow], list[Record]]
    """The records of a row."""
    usage: Callable[[Written], Usage]
    """The config and the command of the tool."""
    holds: frozenset[Holds]
    """What a row may have beside one question and its two responses."""
    columns: tuple[str, ...] = ()
    """Of a table, in their order."""
    turns: tuple[str, ...] = ("prompt", "chosen", "rejected")
    """Columns of a Parquet file with lists of messages."""
    alternates: bool = False
    """The turns must be those of the user and of the assistant by turns."""
    needs_scores: bool = False
    """Only the scores say which response is the better one."""
    trims: bool = False
    """Responses lose the white space around them."""
    files: tuple[str, str] = ("train", "test")
    """Names of the files of the training rows and of the held-out ones, without the ending."""


def make_records(form: ExportFormat, row: ExportRow) -> list[Record]:
    """The records of a row. Raises Unheld for one with something that the format does not hold."""
    check_held(form, row)
    try:
        return form.records(row)
    except CallUnread as error:
        raise Unheld("unread_tool_call") from error


def check_held(form: ExportFormat, row: ExportRow) -> None:
    turns = row.turns
    if not turns or not turns[-1]["content"].strip():
        raise Unheld("no_prompt")
    if row.system and "system" not in form.holds:
        raise Unheld("system_message")
    if len(turns) > 1 and "turns" not in form.holds:
        raise Unheld("tools" if row.has_tools and "tools" not in form.holds else "several_turns")
    if row.has_tools and "tools" not in form.holds:
        raise Unheld("tools")
    if form.alternates and not is_alternating(turns):
        raise Unheld("turn_order")
    if form.needs_scores:
        if row.score_chosen is None or row.score_rejected is None:
            raise Unheld("no_scores")
        if row.score_chosen <= row.score_rejected:
            raise Unheld("scores_disagree")


def is_alternating(turns: Messages) -> bool:
    """Whether those who ask (a user, the result of a tool) and those who respond take turns, askers first and last."""
    asks = [turn["role"] in ("user", "tool") for turn in turns]
    return all(is_asking == (place % 2 == 0) for place, is_asking in enumerate(asks)) and asks[-1]


def lost_details(form: ExportFormat, row: ExportRow) -> Iterable[str]:
    """What of a row that is exported the format leaves behind."""
    if "reasoning" not in form.holds and (row.reasoning_chosen or row.reasoning_rejected):
        yield "reasoning"
    if "scores" not in form.holds and (row.score_chosen is not None or row.score_rejected is not None):
        yield "scores"
    if form.trims and any(text != text.strip() for text in (row.chosen, row.rejected)):
        yield "white_space"


CONVERSATIONS: frozenset[Holds] = frozenset({"system", "turns"})
WITH_TOOLS: frozenset[Holds] = CONVERSATIONS | {"tools"}
SCORES: frozenset[Holds] = frozenset({"scores"})
WITH_SCORES: frozenset[Holds] = WITH_TOOLS | SCORES
ALL: frozenset[Holds] = WITH_SCORES | {"reasoning"}

FORMATS: dict[str, ExportFormat] = {
    "trl": ExportFormat(
        "TRL's trainers of pairs, with the prompt in a column of its own",
        *("parquet", records.trl, usage.trl_usage("dpo"), WITH_SCORES),
        columns=("prompt", *SIDES, "tools", *FACTS),
    ),
    "trl-implicit": ExportFormat(
        "TRL's trainers of pairs, with the whole conversation on both sides",
        *("parquet", records.trl_implicit, usage.trl_usage("dpo"), WITH_SCORES),
        columns=(*SIDES, "tools", *FACTS),
    ),
    "h4": ExportFormat(
        "the alignment handbook, in the columns and splits of ultrafeedback_binarized",
        *("parquet", records.h4, usage.h4_usage, CONVERSATIONS | SCORES),
        columns=("prompt", "prompt_id", *SIDES, "messages", "score_chosen", "score_rejected"),
        turns=(*SIDES, "messages"),
        files=("data/train_prefs-00000-of-00001", "data/test_prefs-00000-of-00001"),
    ),
    "sharegpt": ExportFormat(
        "LLaMA-Factory and others that read ShareGPT, with the system message as a turn",
        *("jsonl", records.sharegpt, usage.llamafactory_usage("sharegpt", usage.SHAREGPT_COLUMNS), WITH_TOOLS),
        alternates=True,
    ),
    "alpaca": ExportFormat(
        "LLaMA-Factory's alpaca form of preferences",
        *("parquet", records.alpaca, usage.llamafactory_usage("alpaca", usage.ALPACA_COLUMNS), CONVERSATIONS),
        # Not lines of JSON: a reader that has seen only empty histories at first stops at one that is not.
        columns=("instruction", "input", *SIDES, "system", "history", "pair_id"),
        turns=(),
        alternates=True,
    ),
    "axolotl": ExportFormat(
        "axolotl's DPO with `type: chat_template.default`",
        *("jsonl", records.axolotl, usage.axolotl_dpo, CONVERSATIONS),
        trims=True,
    ),
    "llamafactory": ExportFormat(
        "LLaMA-Factory's sharegpt form of preferences, with system text and tools in columns of their own",
        *("jsonl", records.llamafactory, usage.llamafactory_usage("sharegpt", usage.LLAMAFACTORY_COLUMNS), WITH_TOOLS),
        alternates=True,
    ),
    "kto": ExportFormat(
        "TRL's KTOTrainer: two rows a pair, labeled true and false",
        *("parquet", records.kto, usage.trl_usage("kto"), WITH_TOOLS),
        columns=("prompt", "completion", "label", "tools", "pair_id"),
        turns=("prompt", "completion"),
    ),
    "orpo": ExportFormat(
        "axolotl's ORPO with `type: chat_template.argilla`",
        *("jsonl", records.orpo, usage.axolotl_orpo, CONVERSATIONS),
        alternates=True,
    ),
    "openai": ExportFormat(
        "OpenAI's fine-tuning by preferences", *("jsonl", records.openai, usage.openai_usage, WITH_TOOLS)
    ),
    "nemo-rl": ExportFormat(
        "NeMo-RL's PreferenceDataset", *("jsonl", records.nemo_rl, usage.nemo_rl_usage, CONVERSATIONS)
    ),
    "ultrafeedback": ExportFormat(
        "tools that read UltraFeedback: an instruction and its responses with scores",
        *("jsonl", records.ultrafeedback, usage.load_usage("json"), SCORES),
        needs_scores=True,
    ),
    "csv": ExportFormat(
        "people with a spreadsheet",
        *("csv", records.csv, usage.load_usage("csv"), ALL),
        columns=("system", "prompt", *SIDES, "tools", *FACTS, *REASONING),
    ),
    "jsonl": ExportFormat(
        "scripts: all that is known of a pair, one JSON object a line",
        *("jsonl", records.jsonl, usage.build_usage, ALL),
    ),
}
