"""Verdicts of reviewers reach screening, the pairs and the mixes."""

from dataclasses import replace

import polars as pl
import pytest
from garden import write_rows
from judging import answer, ask_about, pairs_of
from mixes import read_rows

from curate.config import BuildConfig, ExplainConfig, MixConfig, ScreenConfig
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.report.explain import explain
from curate.review.apply import AppliedVerdicts, apply_verdicts
from curate.screen.human import SwapConfig, all_verdicts, swap_pairs
from curate.store.workspace import BuildRecord, Workspace
from schemas.errors import UserError
from schemas.ids import digest
from schemas.stages import StageName

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


@pytest.fixture
def data(tmp_path):
    """A data folder with the build 'garden': ten pairs that all pass screening."""
    build(BuildConfig(source=write_rows(tmp_path / "garden.jsonl"), name="garden", skip_rule=NO_VECTORS, data=tmp_path))
    return tmp_path


def read_garden(data) -> BuildRecord:
    return Workspace(data).read_build("garden")


def screened(data) -> dict[str, str | None]:
    table = Workspace(data).open_table(StageName.SCREEN_PAIRS, read_garden(data).tables[StageName.SCREEN_PAIRS])
    return dict(table.scan().select("pair_id", pl.col("dropped_by").cast(pl.String)).collect().rows())


def pairs_now(data) -> pl.DataFrame:
    return Workspace(data).open_pairs(read_garden(data)).scan().collect()


def test_nothing_judged_leaves_every_table_as_it_is(data):
    before = read_garden(data).tables
    ask_about(data, "garden")

    assert apply_verdicts(data, "garden") == []

    rescreen(ScreenConfig(name="garden", data=data, **last_thresholds(data, "garden")))
    assert read_garden(data).tables == before
    assert all_verdicts(data).is_empty()


def test_rejected_and_equal_pairs_are_dropped_by_human_reject_and_accepted_ones_stay(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "both_bad", 1: "equal", 2: "chosen"})

    (applied,) = apply_verdicts(data, "garden")

    found = screened(data)
    dropped = [found[asked["record_id"][row]] for row in range(4)]
    assert dropped == ["human_reject", "human_reject", None, None]
    assert applied == AppliedVerdicts("garden", rejected=2, swapped=0, kept=8, pairs=10)
    assert applied.line() == "build 'garden': 2 pairs dropped by human_reject, 0 swapped; 8 of 10 kept"


def test_a_pair_that_people_turn_round_is_swapped_and_has_no_scores(data):
    asked = ask_about(data, "garden")
    before = pairs_of(data, "garden")
    answer(data, "garden", asked, {3: "rejected"})

    apply_verdicts(data, "garden")

    now, pair_id = pairs_now(data), asked["record_id"][3]
    old, new = before.row(3, named=True), now.filter(pair_id=pair_id).row(0, named=True)
    assert (new["chosen"], new["rejected"]) == (old["rejected"], old["chosen"])
    assert (new["score_chosen"], new["score_rejected"], new["scorer"]) == (None, None, None)
    assert now.filter(pl.col("pair_id") != pair_id).equals(before.filter(pl.col("pair_id") != pair_id))
    assert screened(data)[pair_id] is None


def test_a_swap_is_taken_back_when_the_reviewer_changes_their_mind(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {3: "rejected"})
    apply_verdicts(data, "garden")
    answer(data, "garden", asked, {3: "chosen"})

    apply_verdicts(data, "garden")

    assert pairs_now(data).equals(pairs_of(data, "garden"))
    assert StageName.SWAP_PAIRS not in read_garden(data).tables


def test_an_even_split_keeps_the_pair_and_flags_it(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "chosen"})
    answer(data, "garden", asked, {0: "both_bad"}, reviewer="r2")

    apply_verdicts(data, "garden")

    assert screened(data)[asked["record_id"][0]] is None
    assert read_garden(data).summary["flags"] == {"needs_review": 1}


def test_verdicts_are_applied_once(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "both_bad"})

    first, second = apply_verdicts(data, "garden"), apply_verdicts(data, "garden")

    assert len(first) == 1
    assert second == []


def test_a_build_made_again_is_screened_by_the_verdicts(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "both_bad"})

    built = build(
        BuildConfig(source=str(data / "garden.jsonl"), name="garden", skip_rule=NO_VECTORS, data=data, min_margin=0.5)
    )

    assert built.summary()["dropped"] == {"human_reject": 1}


def test_two_reviews_of_one_pair_are_counted_together_whatever_their_order(data):
    first = ask_about(data, "garden")
    second = ask_about(data, "garden", name="again", a_is_chosen=False)
    answer(data, "garden", first, {0: "both_bad"})
    answer(data, "again", second, {0: "both_bad"}, reviewer="r2")

    found = all_verdicts(data)

    assert found.select("verdict", "answers", "reviewers").rows() == [("reject", 2, ["r1", "r2"])]


def test_a_mix_is_refused_while_verdicts_are_not_applied(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "both_bad"})

    with pytest.raises(UserError, match=r"people judged pairs of build 'garden' .* curate screen garden"):
        mix(MixConfig(name="v1", add=("garden",), data=data))

    assert not (data / "mixes").exists() or not list((data / "mixes").glob("v1*"))


def test_a_mix_of_reviewed_pairs_holds_only_those_and_the_swapped_the_right_way(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "chosen", 1: "rejected", 2: "both_bad"})
    answer(data, "garden", asked, {0: "chosen"}, reviewer="r2")
    apply_verdicts(data, "garden")
    old = pairs_of(data, "garden")

    reviewed = mix(MixConfig(name="v1", add=("garden",), heldout_share=0.0, reviewed_only=True, data=data))
    twice = mix(MixConfig(name="v2", add=("garden",), heldout_share=0.0, min_verdicts=2, data=data))

    rows = read_rows(reviewed.path)
    assert set(rows["pair_id"]) == {asked["record_id"][0], asked["record_id"][1]}
    swapped = rows.filter(pair_id=asked["record_id"][1]).row(0, named=True)
    assert swapped["chosen"] == old["rejected"][1]
    assert (swapped["score_chosen"], swapped["score_rejected"]) == (None, None)
    assert read_rows(twice.path)["pair_id"].to_list() == [asked["record_id"][0]]


def test_a_locked_mix_of_reviewed_pairs_is_made_again_after_other_verdicts(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "chosen", 1: "rejected"})
    apply_verdicts(data, "garden")
    first = mix(MixConfig(name="v1", add=("garden",), heldout_share=0.0, reviewed_only=True, data=data))
    (first.path / "train-00000-of-00001.parquet").unlink()
    answer(data, "garden", asked, {0: "both_bad", 1: "chosen", 2: "chosen"}, reviewer="r1")
    apply_verdicts(data, "garden")

    again = mix(MixConfig(name="v1", data=data))

    assert again.summary()["sha256"] == first.summary()["sha256"]
    assert (again.path / "train-00000-of-00001.parquet").exists()


def test_a_mix_of_reviewed_pairs_without_any_says_so(data):
    with pytest.raises(UserError, match=r"would be empty.*judged by 1"):
        mix(MixConfig(name="v1", add=("garden",), reviewed_only=True, data=data))


def test_the_recipe_of_a_mix_without_verdicts_is_known_by_the_same_digest_as_before(data):
    plain = mix(MixConfig(name="v1", add=("garden",), data=data)).recipe

    sources = [{"build": "garden", "share": 1.0}]
    assert plain.sha256() == digest({"name": "v1", "seed": 30, "heldout_share": 0.1, "sources": sources})
    assert replace(plain, min_verdicts=1).sha256() != plain.sha256()


def test_explain_tells_what_people_said(data):
    asked = ask_about(data, "garden")
    answer(data, "garden", asked, {0: "rejected"})
    apply_verdicts(data, "garden")

    found = explain(ExplainConfig(pair_id=asked["record_id"][0], data=data))

    assert found.summary()["screening"][StageName.COLLECT_HUMAN_VERDICTS]["verdict"] == "swap"
    assert "  reviewers: swap, by 1 of 1 answers of r1" in found.lines()


def test_swapping_exchanges_all_that_belongs_to_a_side(make_pairs):
    pairs = make_pairs(
        chosen=["one", "two"],
        chosen_call=["c1", "c2"],
        rejected_call=["c3", "c4"],
        chosen_finish=["stop", "stop"],
        rejected_finish=["length", "length"],
        failed_score=[True, False],
        flaw=["factual", None],
    )
    ids = pairs["pair_id"]

    swapped = swap_pairs(pairs, SwapConfig(((ids[0], ("r1",)),))).rows

    first = swapped.row(0, named=True)
    assert (first["rejected"], first["chosen_call"], first["chosen_finish"]) == ("one", "c3", "length")
    assert (first["failed_score"], first["flaw"], first["score_chosen"]) == (False, None, None)
    assert swapped.row(1) == pairs.row(1)
    back = swap_pairs(swapped, SwapConfig(((ids[0], ("r1",)),))).rows
    assert back["chosen"].to_list() == ["one", "two"]
