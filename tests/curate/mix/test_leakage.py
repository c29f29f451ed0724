"""Near-duplicates between the builds of a mix, and between its training rows and those it holds out."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from garden import PAIRS, write_rows
from mixes import folder_bytes, read_rows

from curate.config import BuildConfig, MixConfig
from curate.mix.leakage import Similarities, duplicates_between, find_similar, similar_to_heldout
from curate.mix.mix import PublishedMix, mix
from curate.pipeline.build import build

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")


def towards(cosine: float) -> tuple[float, ...]:
    """A vector of length 1 with this cosine to (1, 0, 0)."""
    return cosine, math.sqrt(1 - cosine**2), 0.0


def scripted(vectors: dict[str, tuple[float, ...]]):
    """Makes the vectors that a test names by a word of the text."""

    def embed(blocks, texts):
        found = [next(vector for word, vector in vectors.items() if word in text) for block in blocks for text in block]
        return np.array(found, dtype=np.float16).reshape(texts, 3)

    return embed


@pytest.fixture
def alike(make_pairs):
    """What is alike among pairs of several builds; vectors only where they are given."""

    def run(sources: list[str], vectors: dict | None = None, **columns: list) -> Similarities:
        pairs = make_pairs(**columns).with_columns(source=pl.Series(sources, dtype=pl.String))
        return find_similar(pairs.lazy(), scripted(vectors) if vectors else None)

    return run


def gone(found: Similarities) -> set[tuple[str, str]]:
    return set(duplicates_between(found).select("source", "pair_id").rows())


def leaks(found: Similarities, *heldout: str) -> list[str]:
    split = found.rows.select(
        "source",
        "pair_id",
        split=pl.when(pl.col("pair_id").is_in(list(heldout))).then(pl.lit("heldout")).otherwise(pl.lit("train")),
    )
    return similar_to_heldout(found, split)["pair_id"].to_list()


LONG = "A rose needs sun and water, a warm wall in its back, and a little patience from whoever planted it there."
OTHER = "Cut it in March just above an outward bud, feed it twice, and take away whatever has died in winter."
ASKED = "What does a rose in my garden need from me in the course of a year?"


def test_one_row_has_no_look_alike(alike):
    found = alike(["one"], prompt=[ASKED], pair_id=["a"])

    assert gone(found) == set()
    assert leaks(found, "a") == []


def test_of_the_same_texts_in_two_builds_the_larger_margin_in_z_stays(alike):
    found = alike(
        ["one", "two", "two"],
        prompt=[ASKED, ASKED.upper(), "What is a stone?"],
        chosen=[LONG, LONG, OTHER],
        rejected=["No.", "No idea.", "No word."],
        pair_id=["a", "b", "c"],
        z_chosen=[1.0, 1.5, 4.5],
        z_rejected=[-1.0, -1.5, -4.5],
    )

    assert gone(found) == {("one", "a")}


def test_where_one_row_has_no_z_the_source_named_first_stays_whatever_the_margins(alike):
    same = {"prompt": [ASKED] * 3, "chosen": [LONG] * 3, "rejected": ["No.", "No idea.", "No word."]}

    found = alike(
        ["one", "two", "three"],
        **same,
        pair_id=["a", "b", "c"],
        score_chosen=[9.0, 2.0, None],
        score_rejected=[1.0, 1.0, None],
        z_chosen=[0.5, 1.5, None],
        z_rejected=[-0.5, -1.5, None],
    )

    assert gone(found) == {("two", "b"), ("three", "c")}


def test_copies_that_differ_in_a_word_are_found_by_wording_alone(alike):
    found = alike(
        ["one", "two"],
        prompt=[ASKED, ASKED.replace("garden", "yard")],
        chosen=[LONG, LONG.replace("sun", "light")],
        pair_id=["a", "b"],
        score_chosen=[3.0, 2.0],
    )

    assert gone(found) == {("two", "b")}
    assert leaks(found, "b") == ["a"]


def test_the_same_prompt_with_another_response_stays_but_leaks(alike):
    found = alike(["one", "two"], prompt=[ASKED] * 2, chosen=[LONG, OTHER], pair_id=["a", "b"])

    assert gone(found) == set()
    assert leaks(found, "a") == ["b"]


def test_rows_of_one_build_are_left_to_its_own_screening(alike):
    found = alike(["one"] * 3, prompt=[ASKED] * 3, chosen=[LONG] * 3, pair_id=["a", "b", "c"])

    assert gone(found) == set()


def test_all_rows_of_the_worse_build_that_say_the_same_fall(alike):
    found = alike(
        ["one", "one", "two"],
        prompt=[ASKED] * 3,
        chosen=[LONG] * 3,
        rejected=["No.", "No idea.", "No word."],
        pair_id=["a", "b", "c"],
        z_chosen=[1.0, 1.5, 2.0],
        z_rejected=[-1.0, -1.5, -2.0],
    )

    assert gone(found) == {("one", "a"), ("one", "b")}


def test_ids_of_two_builds_may_be_equal(alike):
    found = alike(["one", "two"], prompt=[ASKED, "What is it?"], chosen=[LONG, OTHER], pair_id=["a", "a"])

    assert gone(found) == set()


def test_pairs_alike_in_meaning_fall_and_prompts_alike_in_meaning_only_leak(alike):
    texts = {
        "prompt": ["Is the rose red?", "Tell me of the lily.", "How old is a tulip?"],
        "chosen": ["It is a warm red.", "Crimson, I would say.", "Ten weeks or so."],
        "pair_id": ["a", "b", "c"],
        "score_chosen": [4.0, 3.0, 2.0],
    }
    vectors = {"rose": towards(1.0), "lily": towards(0.98), "tulip": towards(0.97), "warm": (0.0, 0.0, 1.0)}

    found = alike(["one", "two", "three"], {**vectors, "Crimson": (0.0, 0.05, 1.0), "": (0.0, 1.0, 0.0)}, **texts)

    assert gone(found) == {("two", "b")}
    assert set(leaks(found, "a")) == {"b", "c"}


def test_texts_without_vector_are_like_nothing(alike):
    none = (math.nan,) * 3
    texts = {"prompt": ["Is the rose red?", "Tell me of the lily."], "chosen": ["It is red.", "Crimson, I would say."]}

    found = alike(["one", "two"], {"": none}, **texts, pair_id=["a", "b"])

    assert gone(found) == set()
    assert leaks(found, "a") == []


def test_thousands_of_equal_rows_in_each_build_leave_those_of_the_better_one(alike):
    count = 2000
    found = alike(
        ["one"] * count + ["two"] * count,
        prompt=[ASKED] * 2 * count,
        chosen=[LONG] * 2 * count,
        pair_id=[f"{i}" for i in range(2 * count)],
        z_chosen=[1.0] * count + [1.5] * count,
        z_rejected=[-1.0] * 2 * count,
    )

    assert {source for source, _ in gone(found)} == {"one"}
    assert len(gone(found)) == count


def published(data: Path, *sources: str, **options) -> tuple[PublishedMix, pl.DataFrame]:
    mixed = mix(MixConfig(name="v1", add=sources, data=data, **options))
    return mixed, read_rows(mixed.path)


def built(data: Path, name: str, rows: list, **options) -> None:
    source = write_rows(data / f"{name}.jsonl", rows)
    build(BuildConfig(source=source, name=name, data=data, **{"skip_rule": NO_VECTORS, **options}))


def test_a_mix_leaves_the_look_alike_of_the_source_named_first_and_its_counts_agree(tmp_path):
    copies = [row | {"rejected": "I would rather not say.", "score_chosen": 3.5} for row in PAIRS]
    built(tmp_path, "one", PAIRS)
    built(tmp_path, "two", copies)

    mixed, rows = published(tmp_path, "one", "two")

    assert mixed.summary()["sources"] == {"one": 10, "two": 0}
    assert rows["source"].value_counts().rows() == [("one", 10)]
    assert mixed.summary()["duplicates_between_sources"] == 10
    assert rows["chosen"].is_unique().all()
    assert rows.height == mixed.summary()["rows"] == mixed.summary()["train"] + mixed.summary()["heldout"]


def test_training_rows_like_held_out_ones_are_left_out_and_the_counts_agree(tmp_path):
    # The same questions in slightly other words are other groups, with other answers.
    again = [
        row | {"prompt": f"{row['prompt']} Please.", "chosen": PAIRS[i - 1]["chosen"]} for i, row in enumerate(PAIRS)
    ]
    for name, rows in (("one", PAIRS), ("two", again)):
        built(tmp_path, name, rows, skip_rule=(), max_cosine=0.99, max_topic_gap=2.0)

    mixed, rows = published(tmp_path, "one", "two", heldout_share=0.4)

    summary = mixed.summary()
    assert summary["rows"] == rows.height == 20 - summary["duplicates_between_sources"] - summary["like_heldout"]
    assert summary["like_heldout"] > 0
    assert summary["train"] == rows.filter(split="train").height > 0
    assert summary["heldout"] == rows.filter(split="heldout").height > 0
    assert rows["row"].to_list() == list(range(rows.height))
    questions = rows.with_columns(question=pl.col("messages").list.last().struct.field("content").str.head(20))
    sides = questions.group_by("question").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1
    lock = json.loads((tmp_path / "mixes" / "v1" / "lock.json").read_text())
    assert (lock["like_heldout"], lock["train"]) == (summary["like_heldout"], summary["train"])


def test_such_a_mix_is_made_again_with_the_same_bytes(tmp_path):
    built(tmp_path, "one", PAIRS)
    built(tmp_path, "two", [row | {"rejected": "I would rather not say.", "score_chosen": 3.5} for row in PAIRS])
    mixed, _ = published(tmp_path, "one", "two", heldout_share=0.4)
    content = folder_bytes(mixed.path)
    (mixed.path / "test-00000-of-00001.parquet").unlink()

    assert folder_bytes(mix(MixConfig(name="v1", data=tmp_path)).path) == content


def test_builds_of_which_one_has_no_vectors_are_compared_by_wording(tmp_path):
    built(tmp_path, "one", PAIRS[:4], skip_rule=())
    built(tmp_path, "two", [row | {"rejected": "I would rather not say."} for row in PAIRS[:4]])
    before = sorted((tmp_path / "vectors").rglob("*.npy"))

    mixed, rows = published(tmp_path, "one", "two")

    assert rows.height == 4 == mixed.summary()["duplicates_between_sources"]
    assert sorted((tmp_path / "vectors").rglob("*.npy")) == before


def test_a_share_of_a_build_is_compared_by_what_was_taken_of_it(tmp_path):
    built(tmp_path, "one", PAIRS)
    built(tmp_path, "two", [row | {"rejected": "I would rather not say.", "score_chosen": 99.0} for row in PAIRS])

    mixed, rows = published(tmp_path, "one:0.5", "two")

    # Five come from the first build, and the other five questions stay with the second.
    assert mixed.summary()["sources"] == {"one": 5, "two": 5}
    assert rows["chosen"].n_unique() == 10
