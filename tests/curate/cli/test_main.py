"""What a user meets at the shell: exit codes, one sentence, one JSON object."""

import gzip
import json
import subprocess
import sys

import pytest

from curate.cli.main import main

PAIRS = [
    {
        "prompt": "Name a colour.",
        "chosen": "Blue is a colour.",
        "rejected": "I like red best.",
        "score_chosen": 3.0,
        "score_rejected": 1.0,
    },
    {
        "prompt": "Name a number.",
        "chosen": "Seven is a number.",
        "rejected": "Count on your own.",
        "score_chosen": 2.5,
        "score_rejected": 2.0,
    },
    {
        "prompt": "Name a river.",
        "chosen": "The Nile is one.",
        "rejected": "",
        "score_chosen": 2.5,
        "score_rejected": 2.0,
    },
]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


def read_json(out: str) -> dict:
    return json.loads(out)


def test_help_loads_neither_torch_nor_duckdb_nor_polars():
    program = (
        "import sys\nfrom curate.cli.main import main\n"
        "try:\n    main(['build', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'duckdb', 'polars', 'dataframely', 'transformers'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "curate.cli.main", "--help"], capture_output=True, text=True, check=True
    )

    assert "explain" in done.stdout


def test_every_flag_of_build_has_a_help_text(capsys):
    with pytest.raises(SystemExit):
        main(["build", "--help"])

    shown = " ".join(capsys.readouterr().out.split())
    for words in ("--min-margin MIN_MARGIN Smallest score margin kept", "(default: 0.95)", "-c FILE"):
        assert words in shown


def test_a_build_prints_one_json_object_alone_with_the_names_of_the_contract(run, pairs):
    code, out, _ = run("build", "--source", str(pairs), "--min-margin", "1", "--json")

    summary = read_json(out)
    assert code == 0
    assert (summary["name"], summary["rows_in"], summary["kept"]) == ("pairs", 3, 1)
    assert summary["dropped"] == {"empty": 1, "low_margin": 1}
    assert summary["flags"] == {}
    assert summary.keys() >= {"candidates", "calls", "reused_calls", "scorer", "generator", "table", "seconds"}


def test_when_a_threshold_drops_everything_those_that_keep_the_first_and_a_quarter_are_printed(run, tmp_path):
    # Margins 1 to 5, and an empty response with a larger one: two of five are the fewest that make a quarter.
    rows = [PAIRS[0] | {"prompt": f"Name {n} colours.", "score_chosen": 1.0 + n} for n in range(1, 6)]
    rows.append(PAIRS[2] | {"score_chosen": 10.0})
    (tmp_path / "six.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    code, out, _ = run("build", "--source", "six.jsonl", "--min-margin", "9")

    assert code == 1
    said = "no pair was kept; low_margin dropped 5 of 6: --min-margin 5 would keep the first, 4 a quarter of them"
    assert said in out.splitlines()


def test_a_threshold_that_would_be_refused_is_not_advised(run, tmp_path):
    lower = [row | {"score_chosen": 1.0, "score_rejected": 5.0} for row in PAIRS]
    (tmp_path / "lower.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lower))

    code, out, _ = run("build", "--source", "lower.jsonl")

    assert code == 1
    assert "no pair was kept; low_margin dropped 2 of 3: --skip-rule low_margin would let them pass" in out.splitlines()
    assert "--min-margin" not in out


def test_a_toml_file_holds_the_same_fields_and_flags_win(run, pairs, tmp_path):
    (tmp_path / "build.toml").write_text(f'source = "{pairs}"\nmin-margin = 9\nname = "from-file"\n')

    _, out, _ = run("build", "-c", "build.toml", "--min-margin", "1", "--json")

    assert (read_json(out)["name"], read_json(out)["kept"]) == ("from-file", 1)


def test_the_way_from_build_to_mix_to_explain(run, pairs):
    run("build", "--source", str(pairs), "--name", "mine")
    _, mixed, _ = run("mix", "v1", "--add", "mine", "--json")
    _, listed, _ = run("show", "--json")
    _, shown, _ = run("show", "mine", "--json")
    pair_id = next(pair["pair_id"] for pair in read_json(shown)["pairs"] if pair["dropped_by"] is None)
    code, explained, _ = run("explain", pair_id)

    named = {"name", "rows", "train", "heldout", "sources", "duplicates_between_sources", "like_heldout"}
    assert read_json(mixed).keys() == named | {"kept", "left_out", "license", "sha256", "path"}
    assert [build["name"] for build in read_json(listed)["builds"]] == ["mine"]
    assert code == 0
    assert "  kept\n  margin " in explained
    assert "mix v1: row" in explained


def test_show_of_an_empty_folder_has_nothing_and_creates_nothing(run, tmp_path):
    code, out, _ = run("show")

    assert code == 0
    assert out.count("none yet") == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["build", "--source", "sft", "--num-responses", "1"], "--num-responses 1 gives no pair"),
        (["build", "--source", "sft", "--temperature", "0"], "same response every time"),
        (["build", "--source", "sft", "--num-prompts", "0"], "--num-prompts 0 must be at least 1"),
        (["build", "--source", "sft", "--prompts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["build", "--source", "sft", "--generator", "smolm2"], "did you mean 'smollm2'"),
        (["build", "--source", "sft", "--generator", "hf:./nowhere"], "no model folder ./nowhere"),
        (["build", "--source", "sft", "--generator", "no-such/model"], "no reachable hub model 'no-such/model'"),
        (["build", "--source", "sft", "--scorer", "reward-mni"], "did you mean 'reward-mini'"),
        (["build", "--source", "sft", "--top-p", "2"], "--top-p 2 must be above 0 and at most 1"),
        (["build", "--source", "sft", "--max-tokens", "0"], "--max-tokens 0 must be at least 1"),
        (["build", "--source", "sft", "--min-margin", "nan"], "--min-margin nan must be at least 0"),
        (["build", "--source", "sft", "--name", "../up"], "--name '../up'"),
        (["build", "--source", "gpt"], "needs --generator"),
        (["build", "--source", "gpt", "--generator", "openai:gpt-4o-mini"], "set OPENAI_API_KEY"),
        (["build", "--source", "gpt", "--generator", "http://me:pw@host/v1#m"], "no user name, password or query"),
        (["build", "--source", "gpt", "--generator", "http://host/v1"], "'#MODEL' is missing"),
        (["build", "--source", "pairs.jsonl", "--generator", "smollm2"], "holds ready pairs"),
        (["build", "--source", "nowhere.parquet"], "nowhere.parquet"),
        (["build"], "--source must be given"),
        (["build", "-c", "nowhere.toml"], "no config file nowhere.toml"),
        (["mix", "v1"], "no mix 'v1'"),
        (["mix", "v1", "--add", "nothing"], "no build 'nothing'"),
        (["mix", "../v1", "--add", "sft"], "mix name '../v1'"),
        (["build", "--source", "sft", "--name", "samples"], "belongs to --source samples"),
        (["build", "-c", "."], "cannot read ."),
        (["build", "--source", "x" * 300 + ".jsonl"], "cannot read xxx"),
        (["mix", "v1", "--add", "samples", "--heldout-share", "1"], "--heldout-share 1 must be at least 0 and under 1"),
        (["mix"], "NAME must be given"),
        (["show", "nothing"], "no build or mix 'nothing'"),
        (["explain", "0123456789abcdef"], "no build in data yet"),
    ],
)
def test_the_users_mistake_is_one_sentence_and_exit_code_2(run, monkeypatch, words, sentence):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    code, out, err = run(*words)

    problem = err.splitlines()[-1]
    assert code == 2
    assert problem.startswith("error: ") and sentence in problem
    assert "pw" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("source = ", "is not TOML"),
        ("sauce = 'sft'", "unknown field 'sauce' (did you mean 'source'?)"),
        ("source = 'sft'\nnum_responses = 'four'", "build.toml: field 'num_responses' must be int, found 'four'"),
        ("source = 'sft'\nnum_responses = true", "build.toml: field 'num_responses' must be int, found True"),
    ],
)
def test_a_config_file_that_cannot_be_meant_is_refused(run, tmp_path, toml, sentence):
    (tmp_path / "build.toml").write_text(toml)

    code, _, err = run("build", "-c", "build.toml")

    assert code == 2
    assert sentence in err


def test_a_data_folder_that_cannot_be_written_is_one_sentence(run, pairs, tmp_path):
    (tmp_path / "data").write_text("a file is in the way")

    code, _, err = run("build", "--source", str(pairs))

    assert code == 2
    assert "data" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["--scorer", "http://me:pw@host/v1#m"],
        ["--scorer", "http://me:pw@host/v1#m", "--rubric", "correct"],
        ["--generator", "HTTP://me:pw@host/v1#m"],
        ["--generator", "hf:https://me:pw@host/model"],
        ["--generator", "http://[::1/v1#m"],
    ],
)
def test_a_password_in_a_name_is_not_repeated(run, words):
    code, _, err = run("build", "--source", "sft", *words)

    assert code == 2
    assert ":pw@" not in err


@pytest.mark.parametrize("file", ["builds/pairs.json", "mixes/v1/lock.json", "runs/r/manifest.json"])
@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"format": 99}'])
def test_a_damaged_record_is_one_sentence_and_the_doctor_names_it(run, pairs, tmp_path, file, content):
    run("build", "--source", str(pairs))
    run("mix", "v1", "--add", "pairs")
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)

    code, _, err = run("show")

    assert code == 2
    assert file in err.splitlines()[-1]


def test_a_source_does_not_take_the_name_of_another_unasked(run, pairs, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pairs.jsonl").write_text(pairs.read_text())
    (tmp_path / "pairs.jsonl.gz").write_bytes(gzip.compress(pairs.read_bytes()))
    (tmp_path / "samples.jsonl").write_text(pairs.read_text())
    run("build", "--source", str(pairs))

    for other in ("other/pairs.jsonl", "pairs.jsonl.gz"):
        code, _, err = run("build", "--source", other)
        assert code == 2
        assert "build 'pairs' was made from" in err and "give this one a --name" in err
    _, out, _ = run("build", "--source", "samples.jsonl", "--json")

    assert read_json(out)["name"] == "samples-pairs"


def test_keys_are_present_or_not_and_never_shown(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")

    code, out, err = run("doctor", "--json")

    assert code == 0
    assert "sk-secret-123" not in out + err
    found = {check["name"]: check["found"] for check in read_json(out)["checks"]}
    assert found["OPENAI_API_KEY"] == "set"
    assert "evaluate" in found["shell"]


def test_the_doctor_finds_a_damaged_table_and_exits_1(run, pairs, tmp_path):
    run("build", "--source", str(pairs))
    next((tmp_path / "data" / "tables" / "read_pairs").glob("*/part-00000.parquet")).write_bytes(b"x")
    (tmp_path / "data" / "builds" / "cut.json").write_text('{"format": 1, ')
    (tmp_path / "data" / "ledger.sqlite").write_bytes(b"not a database" * 1000)

    code, out, _ = run("doctor")

    assert code == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith("BAD")] == ["ledger", "build", "build"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "--source", "sft", "--num-prompts", "3.5"], "invalid int value: '3.5'; see curate build --help"),
        (
            ["build", "--source", "sft", "--num-promts", "3"],
            "unrecognized arguments: --num-promts 3; see curate --help (did you mean '--num-prompts'?)",
        ),
        (["build", "--source", "sft", "--promts=p.jsonl"], "(did you mean '--prompts'?)"),
        (["build", "--source", "sft", "--zzz", "--jsn"], "(did you mean '--json'?)"),
        (["build", "--source", "sft", "--zzz"], "unrecognized arguments: --zzz; see curate --help"),
        (["build", "--source", "sft", "more"], "unrecognized arguments: more; see curate --help"),
        (["screen", "sft", "--min-magrin", "1"], "(did you mean '--min-margin'?)"),
        (["review", "export", "sft", "--record", "1"], "(did you mean '--records'?)"),
        (["biuld"], "(did you mean 'build'?)"),
        (["build", "--source", "sft", "--pairing", "adjecent"], "(did you mean 'adjacent'?)"),
        (["build", "--source", "stf"], "no source 'stf'; did you mean 'sft'?"),
        (["build", "--source", "SFT"], "no source 'SFT'; did you mean 'sft'?"),
        (["build", "--source", "sample"], "no source 'sample'; did you mean 'samples'?"),
        (["build", "--source", "gpt", "--generator", "gpt-4o-mini"], "did you mean 'openai:gpt-4o-mini'?"),
        (["build", "--source", "gpt", "--generator", "o4-mini"], "did you mean 'openai:o4-mini'?"),
        (["build", "--source", "gpt", "--generator", "opanai:gpt-4o"], "did you mean 'openai:gpt-4o'?"),
        (["build", "--source", "sft", "--scorer", "gpt-4.1"], "did you mean 'judge:openai:gpt-4.1'?"),
        (["build", "--source", "sft", "--scorer", "judge:gpt-5"], "did you mean 'openai:gpt-5'?"),
        (["build", "--source", "sft", "--scorer", "jugde:smollm2"], "did you mean 'judge:smollm2'?"),
        (["mix", "v1", "--add", "sft:half"], "'half' is not a number; write BUILD:SHARE"),
        (["mix", "v1", "--add", "sft:x%"], "'x%' is not a number"),
        (["mix", "v1", "--add", "sft:%"], "'%' is not a number"),
        (["mix", "v1", "--add", "sft:250%"], "the share of sft is 2.5; it must be above 0 and at most 1"),
        (["mix", "v1", "--add", "sft:0%"], "the share of sft is 0"),
        (["build", "--source", "gtp", "--generator", "smollm2"], "no source 'gtp'; did you mean 'gpt'?"),
    ],
)
def test_a_mistyped_flag_is_one_sentence(run, words, said):
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
