import json
import shutil

import polars as pl
import pytest
from shared_data import PAIRS, needs_pairs

from curate.cli.main import main
from curate.config import BuildConfig, DiffConfig, MixConfig, ScreenConfig
from curate.mix.diff.changes import find_changes
from curate.mix.diff.diff import diff
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.pipeline.rescreen import rescreen
from schemas.errors import UserError
from schemas.ids import pair_key

NOT_EMBEDDED = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
ALL = (*NOT_EMBEDDED, "lexical_duplicate")
WORDS = ("tide", "bread", "violin", "granite", "parliament", "orchid", "glacier", "ledger", "comet", "loom")


def made_rows(count, first=0):
    return [
        {
            "prompt": f"{WORDS[i % 10]} {WORDS[i // 10 % 10]} {i}: what would an expert say?",
            "chosen": f"An expert of {WORDS[i % 10]} would say {WORDS[i * 7 % 10]} comes first, then {i}.",
            "rejected": f"Nobody knows {WORDS[i * 3 % 10]} or {i} well.",
            "score_chosen": 2.0 + i,
            "score_rejected": 1.0,
        }
        for i in range(first, first + count)
    ]


def build_rows(data, name, rows, **options):
    path = data / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build(BuildConfig(source=str(path), name=name, skip_rule=ALL, data=data, **options))


def key_of(row):
    return pair_key([{"role": "user", "content": row["prompt"]}], row["chosen"], row["rejected"])


def found_ids(difference, change, side):
    rows = difference.changed.filter(pl.col("change").str.split("+").list.contains(change))
    return set(rows[f"pair_id_{side}"].to_list())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the builds 'one' and 'two', and the mix 'v1' of both."""
    folder = tmp_path_factory.mktemp("data")
    build_rows(folder, "one", made_rows(40))
    build_rows(folder, "two", made_rows(20, 50))
    mix(MixConfig(name="v1", add=("one", "two"), data=folder))
    return folder


@pytest.mark.parametrize("names", [("v1", "v1"), ("one", "one"), ("mix:v1", "v1"), ("build:one", "one@previous")])
def test_a_side_beside_itself_has_no_difference(data, names):
    if names[1] == "one@previous":
        rescreen(ScreenConfig(name="one", skip_rule=(*ALL, "tie"), data=data))
        rescreen(ScreenConfig(name="one", skip_rule=ALL, data=data))
    difference = diff(DiffConfig(*names, data=data))

    assert difference.changed.is_empty()
    assert (difference.moved, difference.examples) == ([], [])
    if names[1] != "one@previous":
        assert difference.is_same
        assert difference.lines()[-1] == "nothing differs"


@needs_pairs
def test_every_difference_planted_in_a_real_mix_is_named_and_nothing_else(tmp_path):
    rows = pl.read_parquet(PAIRS).unique("prompt", maintain_order=True).to_dicts()
    options = {"drop_personal_data": True}
    build_rows(tmp_path, "uf", rows, **options)
    mix(MixConfig(name="v1", add=("uf",), data=tmp_path))
    kept = [row for row in rows if key_of(row) in set(diff_rows(tmp_path, "v1")["pair_id"])]
    removed, other, turned, rest = kept[:7], kept[7:12], kept[12:15], kept[15:]
    changed = [{**row, "rejected": f"Another response than before, to number {i}."} for i, row in enumerate(other)]
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in turned]
    added = made_rows(4)

    build_rows(tmp_path, "uf", [*rest, *changed, *swapped, *added], **options)
    mix(MixConfig(name="v2", add=("uf",), data=tmp_path))
    difference = diff(DiffConfig("v1", "v2", data=tmp_path))

    assert difference.counts() == {"added": 4, "removed": 7, "other_sides": 5, "swapped": 3}
    expected = {
        "removed": (removed, "a"),
        "added": (added, "b"),
        "other_sides": (changed, "b"),
        "swapped": (swapped, "b"),
    }
    for change, (planted, side) in expected.items():
        assert found_ids(difference, change, side) == {key_of(row) for row in planted}
    assert {(row["change"], row["reason"]) for row in difference.by_source()} == {
        ("added", "no pair of the build"),
        ("removed", "no pair of the build"),
        ("other_sides", None),
        ("swapped", None),
    }
    assert [row["setting"] for row in difference.settings] == ["uf: pairs"]
    assert difference.rows["a"] - 7 - 8 == difference.rows["both"]
    by_id = {key_of(row): row for row in [*rows, *changed, *swapped, *added]}
    shown = [side for example in difference.examples for side in (example["a"], example["b"]) if side]
    assert len(shown) == 2 + 2 + 4 + 4
    for side in shown:
        assert side["rejected"] == " ".join(by_id[side["pair_id"]]["rejected"].split())[:60]
    # the responses that were put in are much shorter than those of before
    assert "rejected length" in {moved.feature for moved in difference.moved if moved.is_moved}
    assert not {"chosen length", "margin"} & {moved.feature for moved in difference.moved if moved.is_moved}


def diff_rows(data, name):
    return pl.read_parquet(data / "mixes" / name / "*-*-of-*.parquet")


def test_the_recipe_and_the_source_say_why_pairs_are_in_one_mix_alone(data):
    mix(MixConfig(name="half", add=("one:0.5",), data=data))

    difference = diff(DiffConfig("v1", "half", data=data))

    assert {(row["change"], row["source"], row["reason"]): row["rows"] for row in difference.by_source()} == {
        ("removed", "one", "share"): 20,
        ("removed", "two", "source left out"): 20,
    }
    told = {row["setting"]: (row["a"], row["b"]) for row in difference.settings}
    assert set(told) == {"one: share", "two: share", "two: pairs"}
    assert told["one: share"] == (1.0, 0.5)
    assert told["two: share"] == (1.0, None)


def test_reasons_that_a_lock_does_not_tell_apart_are_named_together(tmp_path):
    rows = made_rows(40)
    build_rows(tmp_path, "one", rows)
    build_rows(tmp_path, "two", [*rows[:8], *made_rows(20, 50)])
    mix(MixConfig(name="alone", add=("two",), data=tmp_path))
    mix(MixConfig(name="after", add=("one", "two:0.8"), data=tmp_path))

    difference = diff(DiffConfig("alone", "after", data=tmp_path))

    reasons = {row["reason"] for row in difference.by_source() if row["change"] == "removed"}
    assert reasons == {"share or duplicate_between_sources"}
    assert sum("other_source" in row["change"] for row in difference.by_source()) >= 1


def test_pairs_in_the_other_split_are_named_by_their_ids(data):
    mix(MixConfig(name="held", add=("one", "two"), heldout_share=0.3, data=data))
    splits = [
        {row[0] for row in pl.read_parquet(data / "mixes" / name / "test-*.parquet", columns=["pair_id"]).rows()}
        for name in ("v1", "held")
    ]

    difference = diff(DiffConfig("v1", "held", data=data))

    assert found_ids(difference, "moved", "a") == splits[0] ^ splits[1]
    assert difference.counts() == {"moved": len(splits[0] ^ splits[1])}
    assert difference.settings == [{"setting": "heldout_share", "a": 0.1, "b": 0.3}]


def test_another_screening_of_a_source_is_the_reason_and_its_thresholds_are_named(tmp_path):
    build_rows(tmp_path, "one", made_rows(40))
    mix(MixConfig(name="v1", add=("one",), data=tmp_path))
    rescreen(ScreenConfig(name="one", min_margin=15.5, skip_rule=ALL, data=tmp_path))
    mix(MixConfig(name="v2", add=("one",), data=tmp_path))

    difference = diff(DiffConfig("v1", "v2", data=tmp_path))

    # of those the smallest rank is held out in each, which may have moved another group
    removed = [row for row in difference.by_source() if row["change"] != "moved"]
    assert removed == [{"change": "removed", "source": "one", "reason": "low_margin", "rows": 15}]
    assert difference.settings == [{"setting": "one: min_margin", "a": 0.0, "b": 15.5}]


def test_two_screenings_of_one_build_differ_by_their_rules(tmp_path):
    build_rows(tmp_path, "one", made_rows(40))
    rescreen(ScreenConfig(name="one", min_margin=15.5, skip_rule=ALL, data=tmp_path))

    difference = diff(DiffConfig("one@previous", "one", data=tmp_path))

    dropped = [row for row in made_rows(40) if row["score_chosen"] - row["score_rejected"] < 15.5]
    assert found_ids(difference, "removed", "a") == {key_of(row) for row in dropped}
    assert difference.by_source() == [{"change": "removed", "source": None, "reason": "low_margin", "rows": 15}]
    assert difference.settings == [{"setting": "min_margin", "a": 0.0, "b": 15.5}]
    margin = next(moved for moved in difference.moved if moved.feature == "margin")
    assert margin.is_moved
    assert margin.a["median"] < margin.b["median"]


def test_an_unknown_screening_names_those_that_are_there(data):
    with pytest.raises(UserError, match=r"'two' has no screening 'ffff'; there are [0-9a-f]{16} \(--skip-rule .*now\)"):
        diff(DiffConfig("two", "two@ffff", data=data))
    with pytest.raises(UserError, match="'two' has no screening 'previous'"):
        diff(DiffConfig("two", "two@previous", data=data))


def test_builds_say_why_a_row_never_became_a_pair(tmp_path):
    rows = made_rows(12)
    build_rows(tmp_path, "old", rows)
    # responses with ratings, one of which is missing
    rated = [
        {
            "prompt": row["prompt"],
            "responses": [row["chosen"], row["rejected"]],
            "ratings": [9.0, None if i == 11 else 1.0],
        }
        for i, row in enumerate(rows[1:], 1)
    ]
    build_rows(tmp_path, "new", rated)

    difference = diff(DiffConfig("old", "new", data=tmp_path))

    reasons = {row["pair_id_a"]: row["reason"] for row in difference.changed.filter(change="removed").to_dicts()}
    assert reasons == {key_of(rows[0]): "not said", key_of(rows[11]): "never a pair: failed_score"}


def sides(*rows):
    """Facts of pairs: key, prompt, hashes of chosen and rejected, split and score."""
    names = ("key", "prompt", "chosen_hash", "rejected_hash", "split", "score_chosen")
    frame = pl.DataFrame(
        rows, schema=dict.fromkeys(names, pl.UInt64) | {"split": pl.String, "score_chosen": pl.Float64}, orient="row"
    )
    return frame.with_columns(source=pl.lit("one"), score_rejected=pl.lit(0.0))


def test_changes_of_a_pair_with_the_same_id_are_told_apart():
    a = sides(*((i, i, 10 + i, 20 + i, "train", 1.0) for i in range(6)))
    b = sides(
        (0, 0, 10, 20, "train", 1.0),
        (1, 1, 21, 11, "heldout", None),  # swapped by reviewers, without a score since, and moved
        (2, 2, 12, 99, "train", 1.0),  # redacted
        (3, 3, 13, 23, "heldout", 1.0),
        (4, 4, 14, 24, "train", 2.0),
        (5, 5, 15, 25, "train", None),
    )

    changes, both = find_changes(a, b)

    assert changes.select("a", "change").rows() == [
        (1, ["swapped", "moved"]),
        (2, ["other_text"]),
        (3, ["moved"]),
        (4, ["rescored"]),
        (5, ["rescored"]),
    ]
    assert both.height == 6


def test_pairs_of_one_prompt_are_matched_once_by_what_they_share():
    a = sides(*((i, 7, *texts, "train", 1.0) for i, texts in enumerate([(1, 2), (3, 4), (5, 6), (7, 8)])))
    b = sides(
        *((10 + i, 7, *texts, "train", 1.0) for i, texts in enumerate([(9, 9), (3, 0), (2, 1), (9, 6), (1, 1)])),
        (20, 8, 1, 2, "train", 1.0),
    )

    changes, _ = find_changes(a, b)

    found = {(row["a"], row["b"]): row["change"] for row in changes.to_dicts()}
    assert found == {
        (0, 2): ["swapped"],
        (1, 1): ["other_sides"],
        (2, 3): ["other_sides"],
        (3, 0): ["other_sides"],
        (None, 4): ["added"],
        (None, 5): ["added"],
    }


def test_pairs_with_the_same_text_are_counted_one_by_one():
    row = (1, 1, 10, 20, "train", 1.0)

    changes, both = find_changes(sides(row, row), sides(row))

    assert changes.to_dicts() == [{"a": 1, "b": None, "change": ["removed"]}]
    assert both.height == 1


def test_a_copied_folder_is_a_side_and_what_cannot_be_told_is_not_made_up(data, tmp_path):
    folder = shutil.copytree(data / "mixes" / "v1", tmp_path / "copied")
    mix(MixConfig(name="single", add=("two",), data=data))
    single = shutil.copytree(data / "mixes" / "single", tmp_path / "single")

    here = diff(DiffConfig(str(folder), "v1", data=data))
    there = diff(DiffConfig(str(single), str(folder), data=tmp_path / "nowhere"))

    assert here.is_same
    assert there.by_source() == [{"change": "added", "source": "one", "reason": "source left out", "rows": 40}]
    assert "are not here to say why pairs are out" in there.notes[0]


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_out_has_a_row_for_each_pair_that_differs(data, tmp_path, ending):
    mix(MixConfig(name="out", add=("one",), data=data))
    path = tmp_path / f"changes.{ending}"

    difference = diff(DiffConfig("v1", "out", out=path, data=data))

    read = {"json": pl.read_json, "jsonl": pl.read_ndjson, "csv": pl.read_csv, "parquet": pl.read_parquet}[ending](path)
    assert read.height == difference.changed.height == 20
    assert read.columns == difference.changed.columns
    assert set(read["pair_id_a"]) == found_ids(difference, "removed", "a")
    with pytest.raises(UserError, match="is there already"):
        diff(DiffConfig("v1", "out", out=path, data=data))


def test_what_does_not_compare_is_refused_in_one_sentence(data, tmp_path):
    with pytest.raises(UserError, match="do not compare; give two mixes or two builds"):
        diff(DiffConfig("v1", "one", data=data))
    with pytest.raises(UserError, match=r"no mix, build or folder 'v9' \(did you mean 'v1'\?\)"):
        diff(DiffConfig("v9", "v1", data=data))
    with pytest.raises(UserError, match="ends with no format"):
        diff(DiffConfig("v1", "v1", out=tmp_path / "changes.xlsx", data=data))


def test_a_name_of_a_mix_and_a_build_needs_its_kind(tmp_path):
    build_rows(tmp_path, "one", made_rows(12))
    mix(MixConfig(name="both", add=("one",), data=tmp_path))
    build_rows(tmp_path, "both", made_rows(12))

    with pytest.raises(UserError, match="write mix:both or build:both"):
        diff(DiffConfig("both", "both", data=tmp_path))
    assert diff(DiffConfig("mix:both", "mix:both", data=tmp_path)).is_same


def test_examples_show_no_personal_data(tmp_path, capsys):
    rows = [
        *made_rows(12),
        {"prompt": "Who leads the choir?", "chosen": "Write to anna.berg@posteo.de.", "rejected": "No idea, sorry."},
    ]
    build_rows(tmp_path, "one", rows)
    build_rows(tmp_path, "two", rows[:12])

    assert main(["diff", "one", "two", "--data", str(tmp_path)]) == 0

    printed = capsys.readouterr().out
    assert "Write to [email]." in printed
    assert "posteo" not in printed


def test_the_language_of_what_was_added_is_seen_to_move(tmp_path):
    german = [
        {
            "prompt": f"Was weiß man über {WORDS[i % 10]} Nummer {i}?",
            "chosen": f"Darüber weiß man ziemlich viel, und zwar seit über {i} Jahren, sagen die Fachleute.",
            "rejected": f"Das weiß leider niemand so genau, auch nicht nach {i} Jahren.",
        }
        for i in range(30)
    ]
    english = [{**row, "score_chosen": None, "score_rejected": None} for row in made_rows(60)]
    build_rows(tmp_path, "old", english)
    build_rows(tmp_path, "new", [*english, *german])

    moved = {moved.feature: moved for moved in diff(DiffConfig("old", "new", data=tmp_path)).moved}

    assert moved["language"].is_moved
    assert moved["language"].a["de"] == 0
    assert moved["language"].b["de"] == pytest.approx(1 / 3, abs=0.02)
    assert "margin" not in moved
