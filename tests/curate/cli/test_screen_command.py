"""What a user meets who screens a build again: exit codes, one sentence, one JSON object."""

import json
from pathlib import Path

import polars as pl
import pytest
from garden import PAIRS, write_rows
from mixes import read_rows
from scripted import completion

from curate.screen.cures import cure

NO_VECTORS = (
    "--skip-rule",
    "off_topic",
    "--skip-rule",
    "semantic_duplicate_prompt",
    "--skip-rule",
    "semantic_duplicate_pair",
)
SECRETS = {
    "email": "maria.hofmann@posteo.de",
    "phone": "(415) 867-5309",
    "card_number": "4111 1111 1111 1111",
    "ip_address": "81.2.69.142",
    "api_key": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
}
SECRET_PAIRS = [
    {
        **row,
        "chosen": f"{row['chosen']} Ask {secret} for more of it.",
        "rejected": f"{row['rejected']} Or {secret} does.",
    }
    for row, secret in zip(PAIRS, SECRETS.values(), strict=False)
]


@pytest.fixture
def made(run, tmp_path):
    """Builds 'garden' from rows, without vectors unless they are asked for; gives the summary."""

    def make(rows, *words: str, vectors: bool = False) -> dict:
        write_rows(tmp_path / "garden.jsonl", rows)
        skip = () if vectors else NO_VECTORS
        code, out, _ = run("build", "--source", "garden.jsonl", *skip, *words, "--json")
        found = read_json(out)
        assert code == (0 if found["kept"] else 1)
        return found

    return make


def read_json(out: str) -> dict:
    return json.loads(out)


def screen(run, *words: str) -> dict:
    code, out, _ = run("screen", "garden", *words, "--json")
    assert code == 0
    return read_json(out)


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder by content and time of change."""
    files = [path for path in folder.rglob("*") if path.is_file() and "ledger" not in path.name]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def pairs_of(run) -> list[dict]:
    return read_json(run("show", "garden", "--json")[1])["pairs"]


def rows_of(summary: dict, folder: Path, stage: str) -> pl.DataFrame:
    """The rows of a table of the build as it stands now."""
    record = json.loads((folder / "data" / "builds" / f"{summary['name']}.json").read_text())
    return pl.read_parquet(folder / "data" / "tables" / stage / record["tables"][stage] / "part-*.parquet")


def test_the_json_object_has_the_names_of_the_contract_and_its_sums_agree(run, made):
    made([*PAIRS, PAIRS[0]])

    found = screen(run, "--min-margin", "3")

    assert found.keys() == {
        *("name", "pairs", "kept", "dropped", "rules", "flags", "thresholds", "hint", "table", "seconds")
    }
    assert found["pairs"] == 11 == found["kept"] + sum(found["dropped"].values())
    # Margins are 1 to 10, of which 1 and 2 lie under 3.
    assert found["dropped"] == {"duplicate_pair": 1, "low_margin": 2}
    assert [rule["rule"] for rule in found["rules"]] == ["duplicate_pair", "low_margin"]
    assert found["rules"][1]["threshold"] == "--min-margin"
    assert found["rules"][1]["share"] == pytest.approx(2 / 11)
    assert len(found["rules"][1]["examples"]) == 2
    assert (found["thresholds"]["min_margin"], found["hint"]) == (3.0, None)


def test_the_waterfall_is_read_from_top_to_bottom(run, made):
    made(PAIRS)

    code, out, _ = run("screen", "garden", "--min-margin", "3")

    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("thresholds: --min-margin 3.0 --skip-rule ")
    assert lines[1].split() == ["10", "pairs"]
    assert lines[2].split()[:4] == ["-2", "20.0%", "low_margin", "(--min-margin):"]
    assert lines[-2].split() == ["8", "80.0%", "kept"]
    assert lines[-1].startswith("build 'garden': 8 of 10 pairs kept")


def test_of_two_settings_that_exclude_each_other_the_one_given_now_counts(run, made):
    made(PAIRS)

    screen(run, "--drop-personal-data")
    second = screen(run, "--redact")

    assert (second["thresholds"]["drop_personal_data"], second["thresholds"]["redact"]) == (False, True)


def test_signs_that_would_steer_a_terminal_are_not_printed(run, made):
    made([PAIRS[0] | {"chosen": "It is \x1b[31mred\x1b[0m, \u202eas I said, and \x1b]0;title\x07 so it stays."}])

    _, shown, _ = run("show", "garden")
    _, screened, _ = run("screen", "garden", "--min-margin", "100")

    assert not set("\x1b\x07\u202e") & set(shown + screened)


def test_flags_that_are_not_given_keep_their_thresholds_and_defaults_begin_anew(run, made, tmp_path):
    made(PAIRS, "--min-margin", "2")

    second = screen(run, "--max-response-similarity", "0.9")
    third = screen(run, "--min-margin", "4")
    (tmp_path / "screen.toml").write_text("min-margin = 5\nmin-tokens = 4\n")
    from_file = screen(run, "-c", "screen.toml", "--min-tokens", "5")
    afresh = screen(run, "--defaults", *NO_VECTORS, "--max-echo", "0.8")

    skipped = ["off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair"]
    assert (second["thresholds"]["min_margin"], second["thresholds"]["max_response_similarity"]) == (2.0, 0.9)
    assert second["thresholds"]["skip_rule"] == third["thresholds"]["skip_rule"] == skipped
    assert (third["thresholds"]["min_margin"], third["thresholds"]["max_response_similarity"]) == (4.0, 0.9)
    assert (from_file["thresholds"]["min_margin"], from_file["thresholds"]["min_tokens"]) == (5.0, 5)
    assert (afresh["thresholds"]["min_margin"], afresh["thresholds"]["max_response_similarity"]) == (0.0, 0.98)
    assert (afresh["thresholds"]["max_echo"], afresh["kept"]) == (0.8, 10)


def test_without_any_flag_a_build_is_screened_to_the_same_table(run, made):
    built = made(PAIRS, "--min-margin", "2")

    assert screen(run)["table"] == built["table"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gardn"], "no build 'gardn' in data/builds (did you mean 'garden'?)"),
        (["gardn", "--defaults"], "did you mean 'garden'?"),
        ([], "NAME must be given"),
        (["../garden"], "no build '../garden'"),
        (["garden", "--min-margin", "nan"], "--min-margin nan must be at least 0"),
        (["garden", "--min-margin", "much"], "invalid float value: 'much'"),
        (["garden", "--min-z-margin", "1"], "no pair has a z score: use --min-margin"),
        (["garden", "--margin-quantiles", "0.9:0.1"], "must be 0 <= LOW < HIGH <= 1"),
        (["garden", "--margin-quantiles", "half"], "is not LOW:HIGH"),
        (["garden", "--max-cosine", "0"], "--max-cosine 0 is outside 0.5 to 1"),
        (["garden", "--max-jaccard", "0.3"], "--max-jaccard 0.3 is outside 0.5 to 1"),
        (["garden", "--max-topic-gap", "-1"], "--max-topic-gap -1 is outside 0 to 2"),
        (["garden", "--keep-per-cluster", "0"], "--keep-per-cluster 0 must be at least 1"),
        (["garden", "--skip-rule", "semantic_duplicate"], "--skip-rule semantic_duplicate: no such rule; did you mean"),
        (["garden", "--skip-rule", "empty"], "a build is nothing without the rules"),
        (["garden", "--redact", "--drop-personal-data"], "give one of them"),
        (["garden", "--decontaminate", "nowhere.jsonl"], "nowhere.jsonl"),
        (["garden", "--decontaminate", "numbers.jsonl"], "numbers.jsonl holds no evaluation prompt in its 2 rows"),
        (["garden", "--decontaminate", "nothing.jsonl"], "nothing.jsonl"),
        (["garden", "--source", "sft"], "unrecognized arguments: --source sft"),
        (["garden", "-c", "nowhere.toml"], "no config file nowhere.toml"),
    ],
)
def test_the_users_mistake_is_one_sentence_and_changes_nothing(run, made, tmp_path, words, sentence):
    made(PAIRS)
    write_rows(tmp_path / "numbers.jsonl", [{"number": 1}, {"number": 2}])
    (tmp_path / "nothing.jsonl").write_text("")
    before = everything(tmp_path)

    code, out, err = run("screen", *words)
    code_json, out_json, _ = run("screen", *words, "--json")

    assert (code, code_json) == (2, 2)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ") and sentence in err
    assert json.loads(out_json) == {"error": err.removeprefix("error: ").strip(), "exit_code": 2}
    assert everything(tmp_path) == before


def test_screening_without_any_build_is_one_sentence_and_makes_no_folder(run, tmp_path):
    code, _, err = run("screen", "garden")

    assert code == 2
    assert "no build 'garden' in data/builds (there is none yet)" in err
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_gone_is_made_again(run, made, tmp_path):
    made(PAIRS)
    manifest = next((tmp_path / "data" / "tables" / "read_pairs").glob("*/manifest.json"))
    manifest.unlink()

    code, _, _ = run("screen", "garden", "--min-margin", "1")

    assert code == 0
    assert manifest.exists()


def advice(found: dict) -> list[str]:
    """The flag and the number that are said to keep the first."""
    return found["hint"].partition(": ")[2].split(" would keep")[0].split()


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--min-margin", "99"), "low_margin"),
        (("--min-score", "99"), "low_score"),
        (("--min-tokens", "99"), "too_short"),
        (("--max-response-similarity", "0"), "similar_responses"),
        (("--max-echo", "0"), "prompt_echo"),
    ],
)
def test_where_all_are_dropped_the_threshold_that_is_named_keeps_one(run, made, words, rule):
    rows = [row | {"chosen": f"{row['prompt']} {row['chosen']}", "rejected": f"{row['prompt']} No."} for row in PAIRS]
    made(rows)

    nothing = screen(run, *words)
    flag, number = advice(nothing)
    some = screen(run, flag, number)

    assert nothing["kept"] == 0
    assert nothing["hint"].startswith(f"no pair was kept; {rule} dropped 10 of 10: {words[0]} ")
    assert flag == words[0]
    assert some["kept"] >= 1
    assert some["hint"] is None


def test_a_repetition_threshold_that_is_named_keeps_one(run, made):
    again = "the same words come again and again here. "
    made([row | {"chosen": again * (i + 3)} for i, row in enumerate(PAIRS)], "--max-repetition", "0.1")

    flag, number = advice(screen(run))

    assert flag == "--max-repetition"
    assert screen(run, flag, number)["kept"] >= 1


@pytest.mark.parametrize("margin", [123.456789, 1234567.891, 0.12345678, 1e-7])
def test_the_threshold_that_is_named_has_all_its_digits(run, made, margin):
    made([row | {"score_chosen": margin, "score_rejected": 0.0} for row in PAIRS], "--min-margin", "9999999")

    flag, number = advice(screen(run))

    assert screen(run, flag, number)["kept"] == 10


def test_a_margin_below_zero_is_never_advised(run, made):
    made([row | {"score_chosen": 1.0, "score_rejected": 5.0} for row in PAIRS])

    found = screen(run)

    assert found["hint"] == "no pair was kept; low_margin dropped 10 of 10: --skip-rule low_margin would let them pass"
    assert screen(run, *NO_VECTORS, "--skip-rule", "low_margin")["kept"] == 10


def test_where_a_rule_without_threshold_drops_all_skipping_it_is_named(run, made):
    made([row | {"score_chosen": 1.0, "score_rejected": 1.0} for row in PAIRS])

    assert screen(run)["hint"] == "no pair was kept; tie dropped 10 of 10: " + cure("tie")
    assert "--skip-rule tie would let them pass" in cure("tie")


def test_the_build_that_keeps_nothing_says_so_as_well(run, tmp_path):
    write_rows(tmp_path / "garden.jsonl", PAIRS)

    code, out, _ = run("build", "--source", "garden.jsonl", *NO_VECTORS, "--min-margin", "99")

    assert code == 1
    # Margins are 1 to 10; the one at three quarters is the eighth (0.75 * 9 = 6.75, and the next higher).
    assert "no pair was kept; low_margin dropped 10 of 10: --min-margin 10 would keep the first, 8 a quarter" in out


def test_examples_never_show_personal_data_in_full(run, made):
    made(SECRET_PAIRS)

    code, out, err = run("screen", "garden", "--min-margin", "99", "--json")
    _, dropped, _ = run("screen", "garden", "--min-margin", "0", "--drop-personal-data", "--json")

    assert code == 0
    assert read_json(dropped)["dropped"] == {"personal_data": 5}
    for secret in SECRETS.values():
        assert secret not in out + err + dropped
    assert "[email]" in out and "[email]" in dropped


def test_personal_data_at_the_end_of_a_long_text_is_masked_before_it_is_cut(run, made):
    long = "One word comes after the other in this long text. " * 20
    made([row | {"chosen": f"{long}{secret}"} for row, secret in zip(PAIRS, SECRETS.values(), strict=False)])

    _, out, _ = run("screen", "garden", "--min-margin", "99", "--json")

    for secret in SECRETS.values():
        assert secret[-8:] not in out
    assert "[email]" in out


def test_redacting_leaves_no_personal_data_and_the_same_ids(run, made, tmp_path):
    plain = made(SECRET_PAIRS)
    ids = rows_of(plain, tmp_path, "screen_pairs")["pair_id"].to_list()
    assert plain["flags"] == dict.fromkeys(SECRETS, 1)

    found = screen(run, "--redact")

    pairs = rows_of(found, tmp_path, "redact_pairs")
    assert pairs["pair_id"].to_list() == ids
    for secret in SECRETS.values():
        assert secret not in str(pairs.to_dicts())
    assert (found["flags"], found["kept"]) == ({}, 5)
    assert "[email]" in str(pairs_of(run)) or "[email]" in run("explain", ids[0])[1]


def test_a_build_can_redact_and_a_later_screening_does_it_neither_twice_nor_keeps_on(run, made, tmp_path):
    made(SECRET_PAIRS, "--redact")
    folder = tmp_path / "data" / "tables" / "redact_pairs"
    once = [path.name for path in folder.iterdir()]

    again = screen(run, "--min-margin", "2")
    plain = screen(run, "--defaults", *NO_VECTORS)

    assert [path.name for path in folder.iterdir()] == once
    assert again["flags"] == {}
    assert plain["flags"] == dict.fromkeys(SECRETS, 1)


def test_a_mix_of_a_redacted_build_holds_no_personal_data(run, made, tmp_path):
    made(SECRET_PAIRS)
    screen(run, "--redact")

    code, out, _ = run("mix", "v1", "--add", "garden", "--json")

    rows = read_rows(tmp_path / "data" / "mixes" / "v1")
    assert code == 0
    assert read_json(out)["rows"] == 5
    assert not any(secret in str(rows.to_dicts()) for secret in SECRETS.values())


def judge(empty: int):
    """An endpoint that draws three responses, one of them empty, and judges an empty one by `empty`, long ones by
    6 or more."""

    def reply(body):
        text = body["messages"][0]["content"]
        if text.startswith("You judge"):
            response = text.rpartition("<response-")[2].partition(">\n")[2].partition("</response")[0]
            score = empty if not response.strip() else 6 + len(response) % 3 if len(response) > 40 else 2
            return 200, completion(json.dumps({"reason": "r", "score": score}))
        asked = body["messages"][-1]["content"].rstrip("?")
        told = (f"{asked}: that is soon told, and it is good to know.", "", f"No word on this: {asked} is a secret.")
        return 200, completion(*(told[i % 3] for i in range(body["n"])))

    return reply


@pytest.mark.parametrize(("empty", "flags"), [(10, 3), (1, 0)])
def test_a_scorer_that_prefers_empty_responses_never_has_one_chosen_and_is_flagged(
    run, endpoint, tmp_path, empty, flags
):
    url = f"{endpoint(judge(empty)).url}#m"
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in PAIRS[:3]])

    code, out, _ = run(
        *("build", "--source", "sft", "--prompts", "prompts.jsonl", "--generator", url, "--scorer", f"judge:{url}"),
        *("--num-responses", "3", *NO_VECTORS, "--skip-rule", "tie", "--json"),
    )

    summary = read_json(out)
    pairs = rows_of(summary, tmp_path, "make_pairs")
    assert code == 0
    assert pairs.height == 3
    assert all(text.strip() for text in [*pairs["chosen"], *pairs["rejected"]])
    assert summary["flags"].get("scorer_unreliable", 0) == flags
    assert ("flagged: scorer_unreliable" in run("explain", pairs["pair_id"][0])[1]) == (flags > 0)


def test_a_prompt_of_an_evaluation_file_is_dropped_as_contaminated(run, made, tmp_path):
    built = made(PAIRS)
    write_rows(tmp_path / "bench.jsonl", [{"prompt": PAIRS[3]["prompt"]}, {"prompt": "Something other is asked here."}])

    found = screen(run, "--decontaminate", "bench.jsonl")
    explained = run("explain", found["rules"][0]["examples"][0]["pair_id"])[1]
    skipped = screen(run, *NO_VECTORS, "--skip-rule", "contaminated")

    pair_id = found["rules"][0]["examples"][0]["pair_id"]
    assert (built["dropped"], found["dropped"], skipped["dropped"]) == ({}, {"contaminated": 1}, {})
    assert found["rules"][0]["examples"][0]["prompt"] == PAIRS[3]["prompt"]
    assert explained.count("holds 100% of prompt 0 of bench.jsonl") == 1
    assert pair_id in {pair["pair_id"] for pair in pairs_of(run)}


def test_a_least_score_is_refused_for_a_scorer_that_does_not_compare(run, tmp_path):
    write_rows(tmp_path / "garden.jsonl", PAIRS[:2])
    run("build", "--source", "garden.jsonl", "--scorer", "reward-mini", "--no-probes", *NO_VECTORS)
    before = everything(tmp_path)

    code, out, err = run("screen", "garden", "--min-score", "1")

    assert (code, out) == (2, "")
    assert "scores of reward-mini compare only between responses to one prompt" in err
    assert everything(tmp_path) == before


def test_a_least_score_is_taken_for_scores_that_came_with_the_pairs(run, made):
    made(PAIRS)

    # Chosen scores are 2 to 11.
    assert screen(run, "--min-score", "5")["dropped"] == {"low_score": 3}


def test_what_lies_on_a_quantile_is_kept(run, made):
    made(PAIRS)

    # Margins 1 to 10; the one nearest to 0.25 is the third (0.25 * 9 = 2.25), to 0.75 the eighth (6.75).
    found = screen(run, "--margin-quantiles", "0.25:0.75")
    whole = screen(run, "--margin-quantiles", "0:1")

    assert found["dropped"] == {"outside_quantiles": 4}
    assert whole["kept"] == 10


def test_one_row_is_screened_again(run, made):
    made(PAIRS[:1])

    assert screen(run, "--min-margin", "1")["kept"] == 1
    assert screen(run, "--min-margin", "1.1")["hint"].endswith("--min-margin 1 would keep the first")


def test_of_thousands_of_equal_rows_one_is_kept(run, made):
    made([PAIRS[0]] * 3000, vectors=True)

    found = screen(run, "--min-tokens", "4")

    assert (found["kept"], found["dropped"]) == (1, {"duplicate_pair": 2999})


def test_long_and_strange_texts_are_screened(run, made, tmp_path):
    long = " ".join(f"word{i}" for i in range(120_000))
    odd = [
        PAIRS[0] | {"chosen": long},
        PAIRS[1] | {"chosen": "🦜🌵🎉 " * 30 + "and that was all of it."},
        PAIRS[2]
        | {"prompt": "مرحبا، كيف حالك اليوم يا صديقي؟", "chosen": "أنا بخير، شكرا لك على السؤال.", "rejected": "لا."},
        PAIRS[3] | {"chosen": "A half of a sign: \ud83d, and then the text goes on."},
        PAIRS[4] | {"prompt": "\udc00 what is this sign good for in a text?"},
    ]

    summary = made(odd, vectors=True)
    found = screen(run, "--min-margin", "99")

    assert summary["rows_in"] == 5
    assert found["kept"] == 0
    assert sum(found["dropped"].values()) == found["pairs"]
    assert all(len(text) < 100 for rule in found["rules"] for row in rule["examples"] for text in row.values())
    assert all(run("explain", row["pair_id"])[0] == 0 for rule in found["rules"] for row in rule["examples"])
