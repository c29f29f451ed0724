"""Rows to export, made by hand: a row a format could stumble on for each case."""

from dataclasses import dataclass, field

from curate.mix.export.rows import ExportRow


@dataclass(frozen=True)
class Rows:
    """Rows to export that no folder holds."""

    train: list[ExportRow]
    heldout: list[ExportRow] = field(default_factory=list)
    kind: str = "mix"
    name: str = "v1"
    splits: tuple[str, ...] = ("train", "heldout")

    def has_tool_turns(self):
        return any(turn["role"] == "tool_call" for row in (*self.train, *self.heldout) for turn in row.prompt)

    def rows(self, split):
        return iter(getattr(self, split))

    def concerns(self):
        return []


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def make_row(*prompt, chosen="Yeast makes gas in the dough.", rejected="The oven pulls it up.", scores=None, **given):
    """A row whose ids are no concern."""
    first, second = scores or (None, None)
    ids = {"pair_id": "a1", "prompt_id": "b2", "prompt_group": "c3", "source": "real", "scorer": None, "flaw": None}
    facts = {"tools": None, "origin": "real", "license": "MIT", "reasoning_chosen": None, "reasoning_rejected": None}
    sides = {"chosen": chosen, "rejected": rejected, "score_chosen": first, "score_rejected": second}
    return ExportRow(prompt=list(prompt), **{**sides, **ids, **facts, **given})


CALL = {"role": "tool_call", "content": '[{"name": "oven", "arguments": {"unit": "C", "rack": 2}}]'}
ODD = (
    "\U0001f35e\u200d \u202e\u05dc\u05d7\u05dd\u202c \x01\x1b \"said\", 'so';\ttab\r\nline\n\nblank\u2028sep\x85end \\n"
)
CASES = {
    "single turn": [make_row(user("Why does bread rise?"), scores=(2.5, -1.0))],
    "several turns": [make_row(user("Hi"), said("Hello."), user("Why does bread rise?"), scores=(7.0, 3.0))],
    "system": [make_row(system("Be brief."), user("Why does bread rise?"), scores=(1.0, 0.0))],
    "tools": [
        make_row(
            *(user("How warm is it?"), CALL, {"role": "tool", "content": "210"}),
            tools='[{"name": "oven", "parameters": {"type": "object"}}]',
            scores=(1.0, 0.5),
        )
    ],
    "reasoning": [make_row(user("Why?"), reasoning_chosen="Let me think.", scores=(1.0, 0.0))],
    "odd signs": [make_row(user(f"Why {ODD}?"), chosen=f"{ODD} good", rejected=f"bad {ODD}.", scores=(1.0, 0.0))],
    "white space": [
        make_row(user(" Why?\n"), chosen="\n Gas is made in it. ", rejected=" Heat pulls.\n\n", scores=(1.0, 0.0))
    ],
}
PLAIN = make_row(
    user("What is a plain row?"), chosen="One that all hold.", rejected="One of no form.", scores=(2.0, 1.0)
)
