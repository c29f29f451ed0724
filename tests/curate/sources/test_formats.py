"""Every format in use gives the pair it means, and a row that says nothing is named."""

import json
import logging

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.config import BuildConfig
from curate.pipeline.imports import ImportConfig, import_pairs
from curate.pipeline.stages import pair_config
from curate.sources.fields import Fields, parse_columns
from curate.sources.formats import read_row
from curate.sources.messages import UnusableRow
from curate.sources.pairs import find_source_format, read_pairs, read_verdicts
from curate.sources.rows import rows_config
from schemas.errors import UserError
from schemas.names import UNPAIRED_REASONS
from schemas.tables import Dropped, Pair, RecordedVerdict

Q, GOOD, BAD = "Why does bread rise?", "Yeast makes gas in the dough.", "The oven pulls the dough up."
ASKED = {"role": "user", "content": Q}
SYSTEM = {"role": "system", "content": "Be brief."}


def said(text: str) -> dict:
    return {"role": "assistant", "content": text}


BOTH = {"chosen": GOOD, "rejected": BAD}
WHOLE = {"chosen": [ASKED, said(GOOD)], "rejected": [ASKED, said(BAD)]}

PAIRS = {
    "alpaca": ({"instruction": "Why does", "input": "bread rise?", **BOTH}, None),
    "orca": ({"system": "", "question": Q, **BOTH}, None),
    "openai": (
        {"input": {"messages": [ASKED]}, "preferred_output": [said(GOOD)], "non_preferred_output": [said(BAD)]},
        None,
    ),
    "messages and one message a side": ({"messages": [ASKED], "chosen": said(GOOD), "rejected": said(BAD)}, None),
    "messages and a rejected response": ({"messages": [ASKED, said(GOOD)], "rejected_response": BAD}, None),
    "messages and rejected messages": (
        {"messages": [ASKED, said(GOOD)], "rejected_messages": [ASKED, said(BAD)]},
        None,
    ),
    "h4": ({"prompt": Q, **WHOLE, "messages": WHOLE["chosen"], "score_chosen": 8, "score_rejected": 3}, (8, 3)),
    "argilla": ({"instruction": Q, **WHOLE, "chosen-rating": 5, "rejected-rating": 2}, (5, 2)),
    "responses with scores": (
        {"prompt": Q, "chosen_response": GOOD, "rejected_response": BAD, "chosen_score": "4"},
        (4, None),
    ),
    "other words": ({"query": Q, "preferred": GOOD, "dispreferred": BAD}, None),
    "capitals": ({"Prompt": Q, "Chosen": GOOD, "Rejected": BAD}, None),
    "hh in a prompt": ({"prompt": f"\n\nHuman: {Q}\n\nAssistant:", "chosen": f" {GOOD}", "rejected": f" {BAD}"}, None),
    "hh without a blank line": (
        {"chosen": f"Human: {Q}\n\nAssistant: {GOOD}", "rejected": f"Human: {Q}\n\nAssistant: {BAD}"},
        None,
    ),
    "json in text": ({"chosen": json.dumps(WHOLE["chosen"]), "rejected": json.dumps(WHOLE["rejected"])}, None),
    "python in text": ({"prompt": Q, "chosen": str(WHOLE["chosen"]), "rejected": str(WHOLE["rejected"])}, None),
    "nemo": (
        {
            "context": [ASKED],
            "completions": [{"rank": 1, "completion": [said(BAD)]}, {"rank": 0, "completion": [said(GOOD)]}],
        },
        (0, -1),
    ),
    "saferlhf": ({"prompt": Q, "response_0": BAD, "response_1": GOOD, "better_response_id": 1}, (1, 0)),
    "helpsteer2": ({"prompt": Q, "response_1": BAD, "response_2": GOOD, "preference_strength": 3}, (3, 0)),
    "helpsteer3": ({"context": [ASKED], "response1": GOOD, "response2": BAD, "overall_preference": -2}, (2, 0)),
    "arena": (
        {"winner": "model_b", "conversation_a": [ASKED, said(BAD)], "conversation_b": [ASKED, said(GOOD)]},
        (1, 0),
    ),
    "arena, columns of votes": (
        {
            **{"prompt": json.dumps([Q]), "response_a": json.dumps([GOOD]), "response_b": json.dumps([BAD])},
            **{"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
        },
        (1, 0),
    ),
    "shp": ({"history": Q, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0, "score_A": 2, "score_B": 9}, (9, 2)),
    "webgpt": ({"question": {"full_text": Q}, "answer_0": GOOD, "answer_1": BAD, "score_0": 1, "score_1": -1}, (1, -1)),
    "pandalm": ({"instruction": Q, "input": "", "response1": BAD, "response2": GOOD, "annotator1": 2}, (1, 0)),
    "alpacaeval": ({"instruction": Q, "output_1": GOOD, "output_2": BAD, "preference": 1.02}, (1, 0)),
    "a verdict in words": ({"prompt": Q, "answer_a": GOOD, "answer_b": BAD, "verdict": "[[A>B]]"}, (1, 0)),
    "ultrafeedback": (
        {
            "instruction": Q,
            "completions": [{"response": BAD, "overall_score": 3.0}, {"response": GOOD, "overall_score": 7.5}],
        },
        (7.5, 3),
    ),
    "nectar": (
        {
            "prompt": f"\n\nHuman: {Q}\n\nAssistant: ",
            "answers": [{"answer": GOOD, "rank": 1.0}, {"answer": BAD, "rank": 5.0}],
        },
        (-1, -5),
    ),
    "gsm8k": ({"prompt": Q, "responses": [BAD, GOOD], "is_correct": [False, True]}, (1, 0)),
    "rm-bench": ({"prompt": Q, "chosen": [GOOD, f"{GOOD} Yes."], "rejected": [BAD, f"{BAD} Yes."]}, (1, 0)),
    "distilabel": ({"instruction": Q, "generations": [BAD, GOOD], "ratings": [1, 5]}, (5, 1)),
}


@pytest.fixture
def imported(tmp_path):
    """Pairs and dropped rows of a build's first stage."""

    def read(*rows, pairing="auto", preference="", columns=""):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        cfg = ImportConfig(
            *(str(path), rows_config(str(path), None, 30).sha256, None, 30),
            columns=parse_columns(columns),
            preference=preference,
            pairing=pair_config(BuildConfig(source=str(path), pairing=pairing)),
            is_auto=pairing == "auto",
        )
        parts = list(import_pairs(cfg))
        for part in parts:
            Pair.validate(part.rows)
            Dropped.validate(part.dropped)
        return pl.concat(part.rows for part in parts), pl.concat(part.dropped for part in parts)

    return read


@pytest.mark.parametrize(("row", "scores"), PAIRS.values(), ids=PAIRS)
def test_every_format_gives_the_better_response_as_chosen(imported, row, scores):
    pairs, dropped = imported(row)

    (pair,) = pairs.to_dicts()
    assert dropped.is_empty()
    assert " ".join(pair["messages"][-1]["content"].split()) == Q
    assert (pair["chosen"], pair["rejected"]) == (GOOD, BAD)
    assert (pair["score_chosen"], pair["score_rejected"]) == (scores or (None, None))
    assert pair["origin"] == "real"


@pytest.mark.parametrize("name", ["system", "system_prompt", "System Message"])
def test_system_column_belongs_to_the_prompt(imported, name):
    pairs, _ = imported({name: "Be brief.", "question": Q, **BOTH}, {name: "", "question": f"{Q}?", **BOTH})

    assert sorted(len(messages) for messages in pairs["messages"]) == [1, 2]
    assert [SYSTEM, ASKED] in pairs["messages"].to_list()


@pytest.mark.parametrize(
    "history",
    [
        [["Hi", "Hello"]],
        [{"role": "user", "content": "Hi"}, said("Hello")],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    ],
)
def test_history_is_earlier_turns(imported, history):
    pairs, _ = imported({"system": "Be brief.", "history": history, "prompt": Q, **BOTH})

    assert [turn["content"] for turn in pairs["messages"][0]] == ["Be brief.", "Hi", "Hello", Q]


def test_tool_turns_and_tools_are_kept(imported):
    turns = [
        {"from": "human", "value": Q},
        {"from": "function_call", "value": '{"name": "oven"}'},
        {"from": "observation", "value": "210"},
    ]
    tools = '[{"name": "oven"}]'

    pairs, _ = imported({"conversations": turns, "tools": tools, **BOTH}, {"prompt": Q, "tools": "[]", **BOTH})

    assert sorted(len(messages) for messages in pairs["messages"]) == [1, 3]
    assert sorted(pairs["tools"], key=str) == [None, tools]


def test_a_turn_that_says_nothing_before_a_call_is_none(imported):
    call, told = {"role": "tool_call", "content": '{"name": "oven"}'}, {"role": "tool", "content": "210"}

    pairs, _ = imported({"prompt": [ASKED, said(""), call, told, said("Hot."), call, told], **BOTH})

    roles = [turn["role"] for turn in pairs["messages"][0]]
    assert roles == ["user", "tool_call", "tool", "assistant", "tool_call", "tool"]


def called(content):
    """A row with a call."""
    turns = [ASKED, {"role": "tool_call", "content": content}, {"role": "tool", "content": "210"}]
    return {"prompt": turns, **BOTH}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (called("<tool_call>oven()</tool_call>"), "unread_structure"),
        (called('"oven"'), "unread_structure"),
        (called('{"name": "oven", "arguments": {"rack": NaN}}'), "unread_structure"),
        ({"prompt": Q, "tools": [{"name": "oven", "parameters": {"rack": float("nan")}}], **BOTH}, "bad_prompt"),
        ({"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner": "yes"}, "bad_preference"),
        ({"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner": 1}, "bad_preference"),
        ({"prompt": Q, "response_0": GOOD, "response_1": BAD, "better_response_id": None}, "bad_preference"),
        ({"prompt": Q, "response_0": GOOD, "response_1": BAD, "better_response_id": 7}, "bad_preference"),
        ({"prompt": Q, "responses": [GOOD, BAD], "scores": [1]}, "bad_preference"),
        ({"prompt": Q, "responses": [GOOD, 3], "scores": [1, 0]}, "bad_response"),
        ({"prompt": Q, "completion": GOOD, "label": True}, "unpaired"),
        ({"messages": [ASKED, said(GOOD)], "label": False}, "unpaired"),
        ({"prompt": Q, "response": GOOD, "helpfulness": 4}, "unpaired"),
        ({"prompt": Q, "chosen": [{"role": "assistant", "tool_calls": [{"id": "c"}]}], "rejected": BAD}, "tool_calls"),
        ({"prompt": f"<|im_start|>user\n{Q}<|im_end|>\n", **BOTH}, "unread_structure"),
        ({"prompt": "<image>What is it?", "image": "a.png", **BOTH}, "image"),
    ],
    ids=str,
)
def test_row_that_says_nothing_has_its_reason(imported, row, reason):
    with pytest.raises(UserError, match=f"none of the .*{reason} 1"):
        imported(row)


@pytest.mark.parametrize("scores", [[1, None], [1, "nan"], [None, None]])
def test_fewer_than_two_scores_give_no_pair(imported, scores):
    pairs, dropped = imported({"prompt": Q, "responses": [GOOD, BAD], "scores": scores})

    assert pairs.is_empty()
    assert dropped.select("stage", "reason").rows() == [("read_pairs", "failed_score")]


@pytest.mark.parametrize("ranks", [(1, 1), (None, 0), ("best", 0)])
def test_two_ranks_that_name_no_better_completion_are_refused(imported, ranks):
    completions = [{"rank": rank, "completion": [said(text)]} for rank, text in zip(ranks, (GOOD, BAD), strict=True)]

    with pytest.raises(UserError, match=r"none of the .*bad_preference 1"):
        imported({"context": [ASKED], "completions": completions})


def test_ranked_pair_with_a_degenerate_side_stays_a_pair(imported):
    completions = [{"rank": rank, "completion": [said(text)]} for rank, text in ((1, ""), (0, GOOD))]

    pairs, _ = imported({"context": [SYSTEM, ASKED], "completions": completions})

    assert pairs.select("chosen", "rejected").row(0) == (GOOD, "")


def test_tools_of_openai_preferences_and_of_labeled_responses_are_kept(imported):
    tools = [{"type": "function", "function": {"name": "oven"}}]
    openai = {"input": {"messages": [ASKED], "tools": tools}, "preferred_output": [said(GOOD)]}
    labeled = [
        {"prompt": Q, "tools": json.dumps(tools), "completion": text, "label": label}
        for text, label in ((GOOD, True), (BAD, False))
    ]

    for rows in ([{**openai, "non_preferred_output": [said(BAD)]}], labeled):
        pairs, _ = imported(*rows)
        assert [json.loads(text) for text in pairs["tools"]] == [tools]


@pytest.mark.parametrize("value", ["tie", "tie (bothbad)", "[[C]]", "A=B"])
def test_tie_has_equal_scores_which_screening_drops(imported, value):
    pairs, _ = imported({"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner": value})

    assert pairs.select("score_chosen", "score_rejected").row(0) == (0, 0)


def test_labeled_responses_are_paired_within_their_prompt_in_the_order_of_the_file(imported):
    rows = [
        {"prompt": Q, "completion": f"{GOOD} 1", "label": True},
        {"prompt": Q, "completion": f"{GOOD} 2", "label": "true"},
        {"prompt": "Other?", "completion": GOOD, "label": 0},
        {"prompt": [ASKED], "completion": [said(f"{BAD} 1")], "label": False},
        {"prompt": Q, "completion": f"{BAD} 2", "label": "false"},
    ]

    pairs, dropped = imported(*rows)

    assert pairs.select("chosen", "rejected").rows() == [(f"{GOOD} 1", f"{BAD} 1")]
    assert dropped["reason"].to_list() == ["unpaired"]


def test_pairing_serves_imported_responses_and_sets_degenerate_ones_aside(imported):
    responses = [f"{GOOD} {word}." for word in ("Yes", "No", "Perhaps")]
    row = {"prompt": Q, "responses": [*responses, ""], "scores": [1, 3, 2, 9]}

    best, _ = imported(row)
    adjacent, _ = imported(row, pairing="adjacent")

    assert best.select("chosen", "rejected").rows() == [(responses[1], responses[0])]
    assert adjacent.select("chosen", "rejected").rows() == [(responses[1], responses[2]), (responses[2], responses[0])]
    assert adjacent["prompt_id"].n_unique() == 1
    assert None not in best.select("z_chosen", "z_rejected").row(0)


def test_auto_goes_by_the_responses_of_each_row(imported):
    scores = [10.0] * 13 + [0.0, 0.5, -6.0]
    many = {"prompt": Q, "responses": [f"{GOOD} {i}" for i in range(16)], "scores": scores}
    few = {"prompt": "Other?", "responses": [f"{GOOD} {i}" for i in range(15)], "scores": scores[1:]}

    pairs, _ = imported(many, few)

    # the mean is 7.78, the deviation 4.79: 0 is 1.62 of them under the mean, and -6 is 2.88, further from two
    rejected = dict(
        zip([messages[0]["content"] for messages in pairs["messages"]], pairs["score_rejected"], strict=True)
    )
    assert rejected == {Q: 0.0, "Other?": -6.0}


def test_preference_and_columns_name_what_is_read(imported, caplog):
    row = {"q": Q, "response_0": GOOD, "response_1": BAD, "better_response_id": 1, "safer_response_id": 0}
    caplog.set_level(logging.INFO)

    pairs, _ = imported(row, preference="safer_response_id", columns="prompt=q")

    assert pairs["chosen"].to_list() == [GOOD]
    assert "safer_response_id decides; --preference could name better_response_id" in caplog.text


def test_majority_of_votes_decides_and_every_vote_is_kept(tmp_path, caplog):
    row = {"instruction": Q, "response1": BAD, "response2": GOOD, "annotator1": 2, "annotator2": 2, "annotator3": 0}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**row, "judge_gpt": 1, "cmp_key": "x"}))
    caplog.set_level(logging.INFO)
    cfg = rows_config(str(path), None, 30)

    (part,), (votes,) = list(read_pairs(cfg)), list(read_verdicts(cfg))

    assert part.rows.select("chosen", "score_chosen", "score_rejected").rows() == [(GOOD, 1.0, 0.0)]
    RecordedVerdict.validate(votes.rows)
    assert votes.rows["pair_id"].unique().to_list() == part.rows["pair_id"].to_list()
    assert votes.rows.select("judge", "order", "verdict").rows() == [
        ("annotator1", "rejected_first", "chosen"),
        ("annotator2", "rejected_first", "chosen"),
        ("annotator3", "rejected_first", "tie"),
        ("judge_gpt", "rejected_first", "rejected"),
    ]
    assert "the majority of annotator1, annotator2, annotator3 decides" in caplog.text
    assert "columns not used: cmp_key" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": "prompt"}, "--columns prompt: expected NAME=COLUMN"),
        ({"columns": "prompt=nothing"}, "--columns nothing: .* has no such column; found prompt, chosen, rejected"),
        ({"preference": "nothing"}, "--preference nothing: .* has no such column"),
    ],
)
def test_column_that_is_not_there_is_refused(imported, given, message):
    with pytest.raises(UserError, match=message):
        imported({"prompt": Q, **BOTH}, **given)


def test_file_of_responses_is_no_file_of_pairs(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": Q, "responses": [GOOD, BAD], "scores": [1, 0]}))

    assert find_source_format(rows_config(str(path), None, 30)).gives == "responses"
    with pytest.raises(UserError, match="`curate build --source` makes pairs of them"):
        list(read_pairs(rows_config(str(path), None, 30)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from([Q, "A", "model_a", "tie"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "rank", "response"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        *("prompt", "messages", "instruction", "input", "chosen", "rejected", "system", "history", "tools", "images"),
        *("response_a", "response_b", "winner", "responses", "scores", "completion", "label", "rejected_response"),
        *("response1", "response2", "annotator1", "completions", "context", "preference", "score_chosen"),
    ]
)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_row_is_read_or_has_a_reason(row):
    try:
        read_row(Fields(row))
    except UnusableRow as error:
        assert error.reason in UNPAIRED_REASONS
