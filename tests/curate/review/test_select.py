"""Which records a review gets, and what they stand for."""

import logging
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from garden import PAIRS, write_rows

from curate.config import BuildConfig, MixConfig
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.review.config import ExportConfig
from curate.review.population import read_population
from curate.review.select import add_facts, choose_records, extend_audit, pick_rows
from curate.review.strata import add_bands, band_edges
from curate.screen.human import text_key
from curate.store.reviews import read_asked, read_review, review_folder
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.names import FLAGS
from schemas.tables import ReviewRecord

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")
SHOWN = ("record_id", "is_overlap", "a_is_chosen", "is_swapped", "batch", "messages", "response_a", "response_b")


def words(count: int, seed: int) -> str:
    return " ".join(f"w{random.Random(f'{seed} {i}').randrange(10**6)}" for i in range(count))


def write_scored(path: Path, count: int, **columns) -> str:
    """Pairs of words that nothing else has, with margins 1/count to 1."""
    rows = []
    for i in range(count):
        row = {
            "prompt": f"What is {words(6, i)}?",
            "chosen": f"It is {words(8, i + 10**6)}.",
            "rejected": f"It may be {words(8, i + 2 * 10**6)}.",
            "score_chosen": 1.0 + (i + 1) / count,
            "score_rejected": 1.0,
        }
        rows.append(row | {name: values[i] for name, values in columns.items()})
    return write_rows(path, rows)


def built(data: Path, count: int, name: str = "scored", **columns) -> Path:
    source = write_scored(data / f"{name}.jsonl", count, **columns)
    build(BuildConfig(source=source, name=name, skip_rule=NO_VECTORS, decontaminate=(), data=data))
    return data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with the build 'scored' of 300 pairs and the mix 'v1' of all of them; no review is begun in it."""
    data = built(tmp_path_factory.mktemp("made"), 300)
    mix(MixConfig(name="v1", add=("scored",), data=data))
    return data


@pytest.fixture
def data(made, tmp_path):
    """The same, for reviews of a test's own."""
    for folder in ("builds", "tables", "mixes", "vectors"):
        if (made / folder).exists():
            (tmp_path / folder).symlink_to(made / folder)
    return tmp_path


def config(data: Path, **changes) -> ExportConfig:
    return replace(ExportConfig(name="scored", out=Path("unused.html"), data=data, records=50), **changes)


def chosen(data: Path, name: str = "scored", **changes) -> pl.DataFrame:
    return choose_records(config(data, name=name, **changes), name)


def by_sampler(asked: pl.DataFrame) -> dict[str, int]:
    return dict(asked["sampler"].cast(pl.String).value_counts().iter_rows())


def test_a_batch_has_its_shares_and_is_saved(data):
    asked = chosen(data)

    assert by_sampler(asked) == {"random": 20, "suspicious": 20, "diverse": 10}
    assert asked.equals(read_asked(data, "scored"))
    assert asked["is_overlap"].sum() == 5
    review = read_review(data, "scored")
    assert (review.kind, review.seed, review.min_submitted) == ("build", 30, 1)
    assert [(stratum.pairs, stratum.drawn) for stratum in review.strata] == [(75, 5)] * 4
    assert review.edges == {"scored": pytest.approx([0.25, 0.5, 0.75])}


def test_a_record_shows_both_responses_in_the_order_that_it_keeps_to_itself(data):
    pairs = read_population(data, "scored", False)

    asked = chosen(data)

    texts = pairs.texts_of(asked["record_id"])
    first = pl.when("a_is_chosen").then("response_a").otherwise("response_b")
    second = pl.when("a_is_chosen").then("response_b").otherwise("response_a")
    assert asked.select(chosen=first, rejected=second).equals(texts.select("chosen", "rejected"))
    assert asked["messages"].equals(texts["messages"])


def test_only_audit_records_have_a_probability_below_one_and_theirs_add_up(data):
    asked = chosen(data)

    audit = asked.filter(sampler="random")
    assert (asked.filter(pl.col("sampler") != "random")["probability"] == 1).all()
    # Each record of a stratum stands for one over its probability pairs of it.
    assert (1 / audit["probability"]).sum() == pytest.approx(300)


def test_records_stand_in_no_order_that_tells_of_them(data):
    asked = chosen(data)

    assert asked["record_id"].is_sorted()


def test_giving_it_again_adds_others_and_leaves_the_earlier_ones_as_they_were_shown(data):
    first = chosen(data)

    second = chosen(data)

    assert second.height == 100
    assert second.head(50).select(SHOWN).equals(first.select(SHOWN))
    assert second["batch"].to_list() == [0] * 50 + [1] * 50
    assert second["record_id"].is_unique().all()


def test_an_extended_audit_is_that_of_one_larger_push(data, made, tmp_path_factory):
    for _ in range(3):
        asked = chosen(data)
    other = tmp_path_factory.mktemp("other")
    for folder in ("builds", "tables"):
        (other / folder).symlink_to(made / folder)

    at_once = chosen(other, records=150)

    columns = ["record_id", "probability", "band"]
    audits = [rows.filter(sampler="random").select(columns).sort("record_id") for rows in (asked, at_once)]
    assert audits[0].equals(audits[1])
    assert audits[0].height == 60
    assert read_review(data, "scored").strata == read_review(other, "scored").strata
    # What was sent for another reason and is drawn now was not sent again.
    promoted = asked.filter(pl.col("sampler") == "random").group_by("batch").len().sort("batch")["len"]
    assert promoted[0] > 20


def test_when_all_that_is_left_is_asked_the_audit_is_of_all(data):
    chosen(data, records=200)

    asked = chosen(data, records=100)

    assert asked.height == 300
    assert by_sampler(asked) == {"random": 300}
    assert set(asked["probability"]) == {1.0}


def test_fewer_pairs_than_asked_for_are_all_sent_and_it_is_said(tmp_path, caplog):
    built(tmp_path, 12)

    with caplog.at_level(logging.INFO):
        asked = chosen(tmp_path, records=50)

    assert asked.height == 12
    assert "50 records were asked for, and no more than 12 are left" in caplog.text


def test_when_nothing_is_left_it_is_said_and_nothing_changes(tmp_path, caplog):
    built(tmp_path, 12)
    first = chosen(tmp_path)
    review = read_review(tmp_path, "scored")

    with caplog.at_level(logging.INFO):
        second = chosen(tmp_path)

    assert "no pair is left" in caplog.text
    assert second.equals(first)
    assert read_review(tmp_path, "scored") == review


def test_when_all_were_asked_for_other_reasons_the_audit_is_of_all_without_a_new_record(tmp_path):
    built(tmp_path, 12)
    chosen(tmp_path, random_share=0.0)

    asked = chosen(tmp_path)

    assert (asked.height, by_sampler(asked)) == (12, {"random": 12})
    assert asked.equals(read_asked(tmp_path, "scored"))
    assert [stratum.drawn for stratum in read_review(tmp_path, "scored").strata] == [12]


def test_a_build_that_keeps_no_pair_is_refused(tmp_path):
    source = write_scored(tmp_path / "scored.jsonl", 5)
    build(BuildConfig(source=source, name="scored", skip_rule=NO_VECTORS, min_margin=9.0, data=tmp_path))

    with pytest.raises(UserError, match=r"'scored' has no pair that was not dropped; --include-dropped"):
        chosen(tmp_path)

    assert chosen(tmp_path, include_dropped=True).height == 5


def test_records_whose_review_was_not_saved_are_chosen_again_and_not_twice(data):
    first = chosen(data)
    (review_folder(data, "scored") / "review.json").unlink()

    assert chosen(data).equals(first)


def test_pairs_of_one_stratum_of_one_pair_are_asked(tmp_path):
    built(
        tmp_path,
        41,
        score_chosen=[1.0 + (i + 1) / 41 if i else None for i in range(41)],
        score_rejected=[1.0 if i else None for i in range(41)],
    )

    asked = chosen(tmp_path, records=30)

    alone = asked.filter(band="none")
    assert alone.select("sampler", "probability", "margin").rows() == [("random", 1.0, None)]


def test_pairs_without_any_score_are_one_band(tmp_path):
    built(tmp_path, 40, score_chosen=[None] * 40, score_rejected=[None] * 40)

    asked = chosen(tmp_path, records=20)

    assert by_sampler(asked) == {"random": 8, "suspicious": 8, "diverse": 4}
    assert set(asked["band"]) == {"none"}


def test_equal_margins_are_one_band(tmp_path):
    built(tmp_path, 40, score_chosen=[2.0] * 40)

    asked = chosen(tmp_path, records=20)

    assert set(asked["band"]) == {"any"}
    assert asked.height == 20


def test_cleaning_has_small_margins_and_flags_first(tmp_path):
    refusal = "I'm sorry, but I cannot help with that."
    built(tmp_path, 200, chosen=[refusal if i == 150 else f"It is {words(8, i)}." for i in range(200)])

    asked = chosen(tmp_path, records=20, random_share=0.0, diverse_share=0.0)

    assert by_sampler(asked) == {"suspicious": 20}
    assert sorted(asked["margin"])[-2] <= 20 / 200 + 1e-9
    assert read_review(tmp_path, "scored").strata == ()


def test_only_flagged_sends_no_other_pair_and_gives_no_estimate(tmp_path, caplog):
    refusal = "I'm sorry, but I cannot help with {}, as I am only a language model."
    built(
        tmp_path, 60, rejected=[refusal.format(words(3, i)) if i % 6 == 0 else f"No: {words(8, i)}." for i in range(60)]
    )

    with caplog.at_level(logging.INFO):
        asked = chosen(tmp_path, only_flagged=True, records=7)

    assert by_sampler(asked) == {"suspicious": 7}
    assert (asked["flags"].list.len() > 0).all()
    assert "flagged pairs give no estimate for the whole dataset" in caplog.text
    assert by_sampler(chosen(tmp_path, only_flagged=True, records=7)) == {"suspicious": 10}
    # Whatever was sent before, an audit is drawn from all pairs.
    asked = chosen(tmp_path, records=20)
    assert sum(stratum.drawn for stratum in read_review(tmp_path, "scored").strata) == by_sampler(asked)["random"] == 8


def test_without_a_flagged_pair_only_flagged_is_refused(data):
    with pytest.raises(UserError, match="no pair with a flag"):
        chosen(data, only_flagged=True)


def test_where_everyone_judges_everything_there_is_no_overlap(data):
    assert not chosen(data, min_submitted=3)["is_overlap"].any()


@pytest.mark.parametrize(("overlap", "records"), [(0.0, 0), (0.1, 5), (1.0, 50)])
def test_the_overlap_is_a_share_of_the_batch(data, overlap, records):
    assert chosen(data, overlap=overlap)["is_overlap"].sum() == records


def test_the_overlap_is_drawn_from_all_samplers_alike(made, tmp_path):
    counts = np.zeros(2)
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for part in ("builds", "tables"):
            (folder / part).symlink_to(made / part)
        asked = chosen(folder, records=100, seed=seed)
        counts += [asked.filter(is_overlap=True)["sampler"].is_in(["random"]).sum(), 40]

    # 200 of 2,000 records: 80 of them are of the audit, give or take 2 * sqrt(200 * 0.4 * 0.6) = 14.
    assert 60 < counts[0] < 100


def test_each_response_is_shown_first_as_often_as_the_other(data):
    asked = chosen(data, records=300)

    # Five standard deviations of 300 tosses of a coin.
    assert abs(asked["a_is_chosen"].sum() - 150) < 5 * math.sqrt(300) / 2


def test_another_seed_draws_and_shows_otherwise(made, tmp_path):
    found = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for part in ("builds", "tables"):
            (folder / part).symlink_to(made / part)
        found.append(chosen(folder, seed=seed, records=300))

    assert found[0]["record_id"].equals(found[1]["record_id"])
    agreeing = (found[0]["a_is_chosen"] == found[1]["a_is_chosen"]).sum()
    assert 100 < agreeing < 200


def test_a_mix_is_reviewed_by_the_builds_of_its_rows(data):
    asked = chosen(data, "v1")

    assert by_sampler(asked) == {"random": 20, "suspicious": 20, "diverse": 10}
    assert set(asked["source"]) == {"scored"}
    assert read_review(data, "v1").kind == "mix"


def test_diverse_records_are_spread_over_prompts_at_random_where_nothing_was_embedded(data, caplog):
    with caplog.at_level(logging.INFO):
        asked = chosen(data)

    assert "spread over prompts at random" in caplog.text
    assert asked.filter(sampler="diverse")["margin"].max() <= 0.5


def test_learning_takes_prompts_that_are_unlike_each_other(tmp_path):
    asked_often = [{**PAIRS[0], "prompt": f"Why do roses lose their leaves in autumn? Part {i}."} for i in range(20)]
    rows = [
        {**pair, "chosen": f"{pair['chosen']} {words(8, i)}", "score_chosen": 2.0 + i / 100}
        for i, pair in enumerate([*asked_often, *PAIRS[1:6]])
    ]
    source = write_rows(tmp_path / "roses.jsonl", rows)
    skip = ("semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")
    build(BuildConfig(source=source, name="scored", skip_rule=skip, data=tmp_path))

    asked = chosen(tmp_path, records=6, random_share=0.0, diverse_share=1.0)

    # Half of them are of small margin, all on roses; they are fewer than the pool, so that the pool is these.
    assert by_sampler(asked) == {"diverse": 6}
    assert asked["messages"].list.get(0).struct.field("content").n_unique() == 6


def frame(sources: list[str], margins: list[float | None]) -> pl.DataFrame:
    """A population of pairs without texts."""
    count = len(sources)
    return pl.DataFrame(
        {
            "pair_id": [f"{i:016x}" for i in range(count)],
            "key": [f"{i:016x}" for i in range(count)],
            "source": sources,
            "prompt_group": [f"g{i // 2}" for i in range(count)],
            "margin": pl.Series(margins, dtype=pl.Float64),
            "flags": pl.Series([[]] * count, dtype=pl.List(pl.Enum(FLAGS))),
            "is_disputed": [False] * count,
            "is_swapped": [False] * count,
        }
    )


def test_what_was_drawn_of_a_dataset_that_has_changed_is_never_more_than_asked_for(data):
    review = read_review(data, "scored") if chosen(data).height else None
    rows = frame(["scored"] * 500, [i / 500 for i in range(500)])
    asked = pl.concat(
        [
            read_asked(data, "scored")
            .head(1)
            .with_columns(
                record_id=pl.lit(f"{i:016x}"), sampler=pl.lit("random", ReviewRecord.create_empty()["sampler"].dtype)
            )
            for i in range(0, 500, 5)
        ]
    )
    facts = add_facts(add_bands(rows, band_edges(rows)), asked, review, text_key("record_id"))

    audit, strata = extend_audit(facts, config(data, records=20))
    picked = pick_rows(facts, audit, config(data, records=20), lambda among, taken, count: among.head(count))

    assert picked.height == 20
    assert strata["drawn"].sum() == audit.height


def test_twenty_thousand_records_of_a_large_dataset_are_chosen_in_seconds(data):
    chosen(data)
    review = read_review(data, "scored")
    rng = np.random.default_rng(0)
    rows = frame(["a", "b"] * 50_000, rng.normal(size=100_000).tolist())
    cfg = config(data, records=20_000)
    started = time.process_time()

    facts = add_facts(add_bands(rows, band_edges(rows)), ReviewRecord.create_empty(), review, text_key("record_id"))
    audit, _ = extend_audit(facts, cfg)
    picked = pick_rows(facts, audit, cfg, lambda among, taken, count: among.head(count))

    assert picked["sampler"].value_counts().sort("sampler").rows() == [
        ("diverse", 4_000),
        ("random", 8_000),
        ("suspicious", 8_000),
    ]
    assert picked["pair_id"].is_unique().all()
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"records": 0}, "--records 0"),
        ({"records": -3}, "--records -3"),
        ({"random_share": 1.1}, "--random-share 1.1"),
        ({"random_share": math.nan}, "--random-share nan"),
        ({"diverse_share": -0.1}, "--diverse-share -0.1"),
        ({"overlap": 2.0}, "--overlap 2"),
        ({"random_share": 0.7, "diverse_share": 0.4}, "--random-share 0.7 and --diverse-share 0.4"),
        ({"min_submitted": 0}, "--min-submitted 0"),
        ({"seed": -1}, "--seed -1"),
        ({"gold": Path("nowhere.jsonl")}, "--gold nowhere.jsonl"),
    ],
)
def test_flags_that_mean_nothing_are_refused_by_name(data, changes, told):
    with pytest.raises(UserError, match=told):
        chosen(data, **changes)

    assert read_review(data, "scored") is None


@pytest.mark.parametrize(
    ("changes", "told"), [({"seed": 31}, "--seed 30"), ({"min_submitted": 2}, "--min-submitted 1")]
)
def test_a_review_goes_on_as_it_was_begun(data, changes, told):
    chosen(data)

    with pytest.raises(UserError, match=f"was begun with {told}"):
        chosen(data, **changes)


def test_a_name_that_stands_for_a_mix_now_is_refused(tmp_path):
    built(tmp_path, 12)
    chosen(tmp_path, records=5)
    workspace = Workspace(tmp_path)
    workspace.save_build(replace(workspace.read_build("scored"), name="kept"))
    workspace.build("scored").unlink()
    mix(MixConfig(name="scored", add=("kept",), data=tmp_path))

    with pytest.raises(UserError, match="was a build when its review was begun and is a mix now"):
        chosen(tmp_path)


def test_known_answers_come_on_top_and_look_like_the_others(data, tmp_path):
    gold = write_rows(tmp_path / "gold.jsonl", PAIRS)

    asked = chosen(data, gold=Path(gold))

    assert by_sampler(asked) == {"random": 20, "suspicious": 20, "diverse": 10, "gold": 10}
    known = asked.filter(sampler="gold")
    assert set(known["source"]) == {"gold"} and set(known["band"]) == {"none"} and set(known["probability"]) == {1.0}
    assert known["record_id"].str.contains("^[0-9a-f]{16}$").all()
    better = known.select(pl.when("a_is_chosen").then("response_a").otherwise("response_b")).to_series()
    assert set(better) == {pair["chosen"] for pair in PAIRS}
    assert asked["record_id"].is_sorted()


def test_known_answers_are_not_asked_twice(data, tmp_path):
    gold = Path(write_rows(tmp_path / "gold.jsonl", PAIRS[:4]))
    chosen(data, gold=gold)
    write_rows(gold, [*PAIRS[:5], PAIRS[4]])

    asked = chosen(data, gold=gold)

    assert by_sampler(asked)["gold"] == 5
    assert asked.height == 105


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_known_answer_on_a_pair_of_the_dataset_is_refused(tmp_path, is_turned):
    built(tmp_path, 20)
    texts = read_population(tmp_path, "scored", False)
    pair = texts.texts_of(texts.rows["pair_id"].head(1)).row(0, named=True)
    sides = (pair["rejected"], pair["chosen"]) if is_turned else (pair["chosen"], pair["rejected"])
    row = {"prompt": pair["messages"][0]["content"], "chosen": sides[0], "rejected": sides[1]}
    gold = Path(write_rows(tmp_path / "gold.jsonl", [*PAIRS[:2], row]))

    with pytest.raises(UserError, match="1 rows are pairs of 'scored' itself"):
        chosen(tmp_path, gold=gold)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n\n", "has no rows"),
        ('{"question": "?"}\n', "no pairs of a known format"),
        (
            '{"prompt": "Why?", "chosen": "So.", "rejected": "No."}\n'
            '{"prompt": "Why?", "chosen": null, "rejected": "No."}\n',
            "bad_response",
        ),
        ('{"prompt": "Why?", "chosen": "So.", "rejected": "No."}\nnot JSON\n', "unreadable_row in row 'not JSON'"),
        ('{"prompt": "Why?", "chosen": "So.", "rejected": "So. "}\n', "both responses are the same in 1 rows"),
    ],
)
def test_a_bad_file_of_known_answers_is_refused_by_name_and_row(data, tmp_path, content, told):
    gold = tmp_path / "gold.jsonl"
    gold.write_text(content)

    with pytest.raises(UserError, match=rf"--gold.*gold\.jsonl.*{told}"):
        chosen(data, gold=gold)
