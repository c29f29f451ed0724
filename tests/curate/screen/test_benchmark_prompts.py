import gzip
import json

import polars as pl
import pytest
from json_lines import write_lines
from shared_data import DATASETS, needs_datasets

from curate.screen.benchmark_prompts import read_benchmark, read_benchmarks
from schemas.errors import UserError


def test_a_file_without_prompts_is_refused_with_its_columns(tmp_path):
    path = str(write_lines(tmp_path / "answers.jsonl", [{"id": 1, "answer": "x"}]))

    with pytest.raises(
        UserError, match=r"answers\.jsonl holds no evaluation prompt in its 1 rows: found columns id, answer"
    ):
        read_benchmark(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n\n", "has no rows"),
        ("not json\n", "no JSON object, first 'not json'"),
        ('{"prompt": "  "}\n', "holds no evaluation prompt"),
        ('{"prompt": null}\n', "holds no evaluation prompt"),
        ('{"turns": []}\n{"turns": 3}\n', "holds no evaluation prompt"),
        ('{"prompt": "\\ud800"}\n', "holds no evaluation prompt"),
    ],
)
def test_a_file_without_a_readable_prompt_is_refused(tmp_path, content, told):
    path = tmp_path / "eval.jsonl"
    path.write_text(content)

    with pytest.raises(UserError, match=told):
        read_benchmark(str(path))


def test_a_file_that_is_not_there_is_refused_by_name():
    with pytest.raises(UserError, match=r"no file nowhere\.jsonl"):
        read_benchmark("nowhere.jsonl")


LATER = "Now say all of that again in the style of a pirate."


@pytest.mark.parametrize(
    ("row", "prompts"),
    [
        ({"prompt": "Why?"}, ("Why?",)),
        ({"question": "Why?", "answer": "Because."}, ("Why?",)),
        ({"instruction": "Sum up.", "input": "A text."}, ("Sum up.\n\nA text.",)),
        ({"instruction": "Sum up.", "instances": [{"input": "A text.", "output": "x"}]}, ("Sum up.\n\nA text.",)),
        ({"turns": ["Why?", LATER, "Shorter."]}, ("Why?", LATER)),
        ({"turns": [{"content": "Why?"}]}, ("Why?",)),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "Why?"},
                    {"role": "assistant", "content": "Because."},
                    {"role": "user", "content": LATER},
                ]
            },
            ("Why?", LATER),
        ),
        ({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}, ("Why?",)),
        ({"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}, ("Why?",)),
    ],
)
def test_prompts_are_read_from_what_evaluation_files_hold(tmp_path, row, prompts):
    assert read_benchmark(str(write_lines(tmp_path / "eval.jsonl", [row]))).prompts == prompts


def test_rows_keep_their_places_and_equal_prompts_come_once(tmp_path):
    rows = [{"prompt": f"Question {i // 2}?"} for i in range(20)]
    rows[4] = {"prompt": None}

    benchmark = read_benchmark(str(write_lines(tmp_path / "eval.jsonl", rows)))

    assert benchmark.prompts == tuple(f"Question {i}?" for i in range(10))
    assert benchmark.places == (0, 2, 5, 6, 8, 10, 12, 14, 16, 18)


def test_every_kind_of_file_gives_the_same_prompts(tmp_path):
    rows = [{"prompt": f"Question {i}?"} for i in range(5)]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pl.DataFrame(rows).write_parquet(tmp_path / "d.parquet")

    benchmarks = [read_benchmark(str(path)) for path in sorted(tmp_path.iterdir())]

    assert {benchmark.prompts for benchmark in benchmarks} == {benchmarks[0].prompts}
    assert [benchmark.name for benchmark in benchmarks] == ["a.jsonl", "b.json", "c.jsonl.gz", "d.parquet"]


def test_the_shipped_prompts_come_first_and_the_same_content_once(tmp_path):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    one, same = (str(write_lines(tmp_path / folder / "eval.jsonl", [{"prompt": "Why?"}])) for folder in "ab")
    other = str(write_lines(tmp_path / "c" / "eval.jsonl", [{"prompt": "How?"}]))

    names = [benchmark.name for benchmark in read_benchmarks([one, same, other])]

    assert names == ["eval_prompts.jsonl", "eval.jsonl", other]


@needs_datasets
@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("mt_bench_questions.jsonl", 153),
        ("arena_hard_v01_questions.jsonl", 500),
        ("self_instruct_252_user_oriented.jsonl", 252),
        ("vicuna80_answers.parquet", 80),
        ("gsm8k_4solutions.jsonl", 894),
        ("gsm8k_train_sft.jsonl.gz", 7473),
        ("pandalm_pairs_3humans_2judges.parquet", 170),
        ("ultrafeedback_pairs.parquet", 614),
    ],
)
def test_evaluation_files_in_use_are_read(name, prompts):
    assert len(read_benchmark(str(DATASETS / name)).prompts) == prompts
