"""Which pairs people may be asked about, and what is known of them."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from garden import PAIRS, write_rows

from curate.config import BuildConfig, MixConfig, ScreenConfig
from curate.files import file_sha256, read_record, write_record
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.review.config import ExportConfig
from curate.review.population import read_population
from curate.review.select import choose_records
from curate.store.reviews import save_answers
from schemas.errors import UserError
from schemas.tables import Annotation

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


def built(data: Path, rows=PAIRS, name="garden", **options) -> Path:
    source = write_rows(data / f"{name}.jsonl", rows)
    build(BuildConfig(source=source, name=name, skip_rule=NO_VECTORS, data=data, **options))
    return data


def judged(data: Path, said: dict[str, str]) -> None:
    """One reviewer says of pairs, by their id, which response is better: `chosen`, `rejected` or `both_bad`."""
    asked = choose_records(ExportConfig(name="garden", out=Path("unused.html"), data=data), "garden")
    rows = []
    for record_id, a_is_chosen in asked.select("record_id", "a_is_chosen").rows():
        if better := said.get(record_id):
            named = {"both_bad": "both_bad"}.get(better, "a" if (better == "chosen") == a_is_chosen else "b")
            answer = {"record_id": record_id, "reviewer": "r1", "answered_at": datetime(2026, 1, 1, tzinfo=UTC)}
            rows.append({**answer, "status": "submitted", "better": named, "sure": 3, "wrong": [], "note": None})
    save_answers(data, "garden", pl.DataFrame(rows, schema=Annotation.create_empty().schema))
    rescreen(replace(ScreenConfig(name="garden", data=data), **last_thresholds(data, "garden")))


def test_the_pairs_of_a_build_are_those_that_no_rule_dropped(tmp_path):
    built(tmp_path, min_margin=3.0)

    kept, every = read_population(tmp_path, "garden", False), read_population(tmp_path, "garden", True)

    assert (kept.kind, kept.is_embedded) == ("build", False)
    assert sorted(kept.rows["margin"]) == [float(margin) for margin in range(3, 11)]
    assert every.rows.height == 10
    assert set(kept.rows["source"]) == {"garden"}
    assert not kept.rows["is_swapped"].any() and not kept.rows["is_disputed"].any()


def test_texts_come_in_the_order_of_the_ids(tmp_path):
    pairs = read_population(built(tmp_path), "garden", False)
    ids = pairs.rows["pair_id"].reverse()

    texts = pairs.texts_of(ids)

    assert texts["pair_id"].to_list() == ids.to_list()
    by_margin = dict(pairs.rows.select("pair_id", "margin").rows())
    assert [PAIRS[int(by_margin[pair_id]) - 1]["chosen"] for pair_id in ids] == texts["chosen"].to_list()
    assert pairs.texts_of(ids.head(0)).height == 0


def test_what_people_said_changes_neither_the_pairs_nor_their_labels(tmp_path):
    built(tmp_path)
    before = read_population(tmp_path, "garden", False)
    one, other, third = before.rows["pair_id"][:3]

    judged(tmp_path, {one: "rejected", other: "both_bad", third: "chosen"})

    record = json.loads((tmp_path / "builds" / "garden.json").read_text())
    assert "swap_pairs" in record["tables"]
    assert record["summary"]["dropped"] == {"human_reject": 1}
    after = read_population(tmp_path, "garden", False)
    assert after.rows.sort("pair_id").equals(before.rows.sort("pair_id"))
    ids = before.rows["pair_id"]
    assert after.texts_of(ids).equals(before.texts_of(ids))


def test_a_swapped_pair_stays_even_if_a_rule_drops_it_as_it_is_now(tmp_path):
    short = {**PAIRS[0], "rejected": "A habit."}
    built(tmp_path, [short, *PAIRS[1:]])
    ids = read_population(tmp_path, "garden", False).rows.sort("margin")["pair_id"]

    judged(tmp_path, {ids[0]: "rejected"})
    found = rescreen(ScreenConfig(name="garden", data=tmp_path, min_tokens=5, skip_rule=NO_VECTORS))

    assert found.summary()["dropped"] == {"too_short": 1}
    assert ids[0] in read_population(tmp_path, "garden", False).rows["pair_id"]


def test_a_mix_has_its_rows_by_build_and_says_which_people_swapped(tmp_path):
    built(tmp_path)
    ids = read_population(tmp_path, "garden", False).rows.sort("margin")["pair_id"]
    judged(tmp_path, {ids[0]: "rejected", ids[1]: "both_bad"})
    mix(MixConfig(name="v1", add=("garden",), data=tmp_path))

    pairs = read_population(tmp_path, "v1", False)

    assert pairs.kind == "mix"
    assert set(pairs.rows["pair_id"]) == set(ids) - {ids[1]}
    assert pairs.rows.filter("is_swapped")["pair_id"].to_list() == [ids[0]]
    swapped = pairs.texts_of(ids.head(1))
    assert (swapped["chosen"][0], swapped["rejected"][0]) == (PAIRS[0]["rejected"], PAIRS[0]["chosen"])
    assert pairs.rows.filter(pair_id=ids[0])["margin"].to_list() == [None]


def test_the_flags_of_a_mix_are_those_of_its_builds(tmp_path):
    refusing = {
        **PAIRS[0],
        "rejected": "I'm sorry, but I cannot help with that request, as I am only a language model.",
    }
    built(tmp_path, [refusing, *PAIRS[1:]])
    mix(MixConfig(name="v1", add=("garden",), data=tmp_path))

    of_build, of_mix = (read_population(tmp_path, name, False).rows for name in ("garden", "v1"))

    assert of_build.filter(pl.col("flags").list.len() > 0)["flags"].to_list() == [["refusal_rejected"]]
    columns = ["pair_id", "source", "prompt_group", "margin", "flags"]
    assert of_mix.select(columns).sort("pair_id").equals(of_build.select(columns).sort("pair_id"))


def test_the_same_texts_are_one_pair_but_among_the_dropped_each_row_is_one(tmp_path):
    built(tmp_path, [PAIRS[0], PAIRS[0], PAIRS[1]])

    every, kept = (read_population(tmp_path, "garden", which).rows for which in (True, False))

    assert (every.height, kept.height) == (3, 2)
    assert every["key"].is_unique().all() and kept["key"].is_unique().all()
    assert set(kept["pair_id"]) < set(every["pair_id"])


def test_a_pair_that_another_scorer_judges_the_other_way_is_disputed(tmp_path):
    built(tmp_path)
    other = [{**pair, "score_chosen": 0.0 if place == 4 else 9.0} for place, pair in enumerate(PAIRS)]
    built(tmp_path, other, "other")
    # Scores of two files have no scorer of different names; one is given another, as a build by a model has.
    assert not read_population(tmp_path, "garden", False).rows["is_disputed"].any()
    record = json.loads((tmp_path / "builds" / "other.json").read_text())
    folder = tmp_path / "tables" / "read_pairs" / record["tables"]["read_pairs"]
    part, manifest = folder / "part-00000.parquet", read_record(folder / "manifest.json")
    pl.read_parquet(part).with_columns(scorer=pl.lit("judge")).write_parquet(part)
    manifest["parts"][0]["sha256"] = file_sha256(part)
    write_record(folder / "manifest.json", manifest)

    rows = read_population(tmp_path, "garden", False).rows

    assert rows.filter("is_disputed")["margin"].to_list() == [5.0]


def test_another_build_without_its_tables_is_no_hindrance(tmp_path):
    built(tmp_path)
    built(tmp_path, PAIRS[:3], "other")
    record = json.loads((tmp_path / "builds" / "other.json").read_text())
    (tmp_path / "tables" / "read_pairs" / record["tables"]["read_pairs"] / "manifest.json").unlink()

    assert read_population(tmp_path, "garden", False).rows.height == 10


def test_a_build_that_keeps_nothing_has_no_pairs(tmp_path):
    built(tmp_path, min_margin=50.0)

    assert read_population(tmp_path, "garden", False).rows.height == 0
    assert read_population(tmp_path, "garden", True).rows.height == 10


@pytest.mark.parametrize(("name", "told"), [("gardn", r"did you mean 'garden'\?"), ("zzz", "found garden, v1")])
def test_an_unknown_name_is_refused_with_the_nearest(tmp_path, name, told):
    built(tmp_path)
    mix(MixConfig(name="v1", add=("garden",), data=tmp_path))

    with pytest.raises(UserError, match=f"no build or mix '{name}'.*{told}"):
        read_population(tmp_path, name, False)


def test_a_mix_has_no_dropped_pairs_to_include(tmp_path):
    built(tmp_path)
    mix(MixConfig(name="v1", add=("garden",), data=tmp_path))

    with pytest.raises(UserError, match="--include-dropped: mix 'v1'"):
        read_population(tmp_path, "v1", True)


def test_a_mix_whose_rows_are_gone_says_how_they_come_back(tmp_path):
    built(tmp_path)
    mix(MixConfig(name="v1", add=("garden",), data=tmp_path)).path.joinpath("train-00000-of-00001.parquet").unlink()

    with pytest.raises(UserError, match="curate mix v1"):
        read_population(tmp_path, "v1", False)
