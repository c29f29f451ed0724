"""Prompts are recognized by their column, and a row without one is kept with a reason."""

import json

import pytest
from shared_data import DATASETS

from curate.sources.prompts import read_prompts
from curate.sources.rows import rows_config
from curate.store.store import PROMPTS_PER_PART
from schemas.errors import UserError
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Dropped, Prompt

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


@pytest.fixture
def prompts_of(tmp_path):
    """Rows of `Prompt` and of `Dropped` made from rows, or from lines of text, in any order."""

    def read(*rows, num_rows=None):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return read_all(path, num_rows)

    return read


def read_all(path, num_rows=None):
    parts = list(read_prompts(rows_config(str(path), num_rows, 30)))
    for rows, dropped in parts:
        Prompt.validate(rows)
        Dropped.validate(dropped)
    return [row for part in parts for row in part.rows.to_dicts()], [
        row for part in parts for row in part.dropped.to_dicts()
    ]


@pytest.mark.parametrize("prompt", [None, 3, "", " \n", [], [ASSISTANT], [USER, ASSISTANT], "half: \ud800"], ids=repr)
def test_prompt_that_asks_nothing_is_dropped_with_its_row(prompts_of, prompt):
    rows, dropped = prompts_of({"prompt": prompt, "id": "é"}, {"prompt": "Hi"})

    assert [row["messages"] for row in rows] == [[USER]]
    assert [(drop["stage"], drop["reason"], drop["prompt_id"]) for drop in dropped] == [
        ("read_prompts", "bad_prompt", None)
    ]
    assert '"id": "é"' in dropped[0]["raw"]


@pytest.mark.parametrize("line", ['{"prompt": "Wh', "[]", '{"text": "Hi"}'])
def test_line_without_a_prompt_is_unreadable_and_kept_as_it_came(prompts_of, line):
    rows, dropped = prompts_of(line, {"prompt": "Hi"})

    assert len(rows) == 1
    kept = line if line != '{"prompt": "Wh' else json.dumps(line)
    assert [(drop["reason"], drop["raw"]) for drop in dropped] == [("unreadable_row", kept)]


def test_file_without_a_prompt_column_is_refused_with_what_was_found(prompts_of):
    with pytest.raises(
        UserError, match=r"rows\.jsonl has no column .*: found text, label; expected prompt, messages, conversations"
    ):
        prompts_of({"text": "Hi", "label": 1}, "{")


def test_file_of_bad_rows_only_is_refused_with_the_first_of_them(prompts_of):
    with pytest.raises(UserError, match=r"none of the 2 rows .*rows\.jsonl.* the first is .*null.*should look like \{"):
        prompts_of({"prompt": None}, {"prompt": None})


def test_file_of_unreadable_lines_only_is_refused_with_the_first_of_them(prompts_of):
    with pytest.raises(UserError, match=r"none of the 1 rows .* the first is '\{\"pro'"):
        prompts_of('{"pro')


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": " Hi\n"}, [{"role": "user", "content": " Hi\n"}]),
        ({"prompt": [USER, ASSISTANT, USER]}, [USER, ASSISTANT, USER]),
        ({"messages": [USER, ASSISTANT]}, [USER]),
        ({"messages": [USER, ASSISTANT, USER, ASSISTANT, ASSISTANT]}, [USER, ASSISTANT, USER]),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, [USER]),
        ({"instruction": "Hi"}, [USER]),
        ({"instruction": "Hi", "input": ""}, [USER]),
        ({"instruction": "Hi", "input": None}, [USER]),
        ({"instruction": "Add", "input": "1 2"}, [{"role": "user", "content": "Add\n\n1 2"}]),
        ({"question": "Hi", "answer": "Hello"}, [USER]),
        ({"turns": ["Hi", "And?"]}, [USER]),
        ({"question": "no", "messages": [USER], "prompt": "Hi"}, [USER]),
    ],
)
def test_prompt_is_taken_from_the_first_known_column(prompts_of, row, messages):
    rows, dropped = prompts_of(row)

    assert [row["messages"] for row in rows] == [messages]
    assert dropped == []


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASSISTANT]},
        {"messages": None},
        {"instruction": "Add", "input": 3},
        {"instruction": None, "input": "1 2"},
        {"turns": []},
        {"turns": [[USER]]},
        {"turns": "Hi"},
    ],
    ids=repr,
)
def test_known_column_without_a_prompt_is_a_bad_prompt(prompts_of, row):
    _, dropped = prompts_of(row, {"prompt": "Hi"})

    assert [drop["reason"] for drop in dropped] == ["bad_prompt"]


def test_repeated_prompt_has_an_id_of_its_own_and_shares_its_group(prompts_of):
    rows, _ = prompts_of({"prompt": "Hi"}, {"question": "Hi"}, {"prompt": "hi!"})

    key = prompt_key([USER])
    assert sorted(row["prompt_id"] for row in rows if row["messages"] == [USER]) == [key, f"{key}-2"]
    assert {row["prompt_group"] for row in rows} == {prompt_group([USER])}


def test_ids_of_fewer_prompts_are_a_prefix_of_those_of_more(prompts_of):
    lines = [{"prompt": f"Question {i % 5}"} for i in range(60)]

    few, more = prompts_of(*lines, num_rows=24)[0], prompts_of(*lines, num_rows=48)[0]

    assert [len(few), len(more)] == [24, 48]
    assert few == more[:24]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1]), (PROMPTS_PER_PART, [PROMPTS_PER_PART]), (PROMPTS_PER_PART + 1, [PROMPTS_PER_PART, 1])],
)
def test_parts_are_full_but_for_the_last(tmp_path, count, sizes):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Question {i}"}) for i in range(count)))

    parts = list(read_prompts(rows_config(str(path), None, 30)))

    assert [part.rows.height for part in parts] == sizes


def test_ids_are_unique_across_parts(prompts_of):
    rows, _ = prompts_of(*[{"prompt": "Hi"}] * (PROMPTS_PER_PART + 2))

    assert len({row["prompt_id"] for row in rows}) == PROMPTS_PER_PART + 2


@pytest.mark.skipif(not DATASETS.exists(), reason="the datasets are not on this machine")
@pytest.mark.parametrize(
    ("name", "prompts", "dropped"),
    [
        ("mt_bench_questions.jsonl", 80, 0),
        ("arena_hard_v01_questions.jsonl", 500, 0),
        ("self_instruct_175_seed_tasks.jsonl", 175, 0),
        ("self_instruct_252_user_oriented.jsonl", 252, 0),
        ("gsm8k_train_sft.jsonl.gz", 7473, 0),
        ("llamafactory_sft_toolcall_en.json", 221, 79),
    ],
)
def test_public_prompts_are_read(name, prompts, dropped):
    rows, drops = read_all(DATASETS / name)

    assert (len(rows), len(drops)) == (prompts, dropped)
