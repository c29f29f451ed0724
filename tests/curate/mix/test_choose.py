"""Mixes of a real build and of a synthetic one, by recipes that say more than shares."""

import hashlib
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedEndpoint, completion

from curate.config import BuildConfig, MixConfig
from curate.mix.choose import split_groups
from curate.mix.mix import mix
from curate.mix.recipe import Recipe, Source
from curate.pipeline.build import build
from curate.store.workspace import Workspace
from schemas.errors import UserError

APART = {
    "skip_rule": (
        "off_topic",
        "wrong_language",
        "lexical_duplicate",
        "semantic_duplicate_prompt",
        "semantic_duplicate_pair",
    ),
    "max_repetition": 1.0,
}
"""What is tested here is not which texts are too alike."""


def word(text):
    return hashlib.sha256(text.encode()).hexdigest()


def write(body):
    """A pair about the prompt, as a writer answers."""
    number = word(body["messages"][-1]["content"])
    pair = {"chosen": f"It is {number} and {word(number)}.", "rejected": f"No, {word(number + 'x')} it is.", "flaw": ""}
    return 200, completion(json.dumps(pair | {"quote": "", "constraint": ""}))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the builds 'real' (60 pairs of 20 prompt groups) and 'made' (30 synthetic pairs)."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {
            "prompt": f"What does {word(f'r{i % 20}')} stand for?{'?' * (i // 20)}",
            "chosen": f"It is the good {word(f'c{i}')}" + " so" * i + ".",
            "rejected": f"It is the poor {word(f'p{i}')}.",
            "score_chosen": float(i),
            "score_rejected": 0.0 if i else -1.0,
        }
        for i in range(60)
    ]
    source = folder / "real.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(BuildConfig(source=str(source), name="real", data=folder, **APART))
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {word(f's{i}')} about?"}) + "\n" for i in range(30)))
    server = ScriptedEndpoint(write)
    generated = {"source": "gpt", "generator": f"{server.url}#m", "prompts": str(prompts), "flaws": "none"}
    try:
        build(BuildConfig(name="made", data=folder, **generated, **APART))
    finally:
        server.close()
    return folder


def published(data, name, *add, **options):
    """A mix with its rows in training order."""
    mixed = mix(MixConfig(name=name, add=add, data=data, **options))
    return mixed, Workspace(data).open_mix(name).scan().collect()


def by_recipe(data, name, text):
    path = Workspace(data).recipe(name)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return published(data, name)


def assert_accounted(mixed, rows):
    """The pairs kept by screening are those of the mix and those of each reason."""
    counts = dict(rows["source"].value_counts().rows())
    for source in mixed.lock.sources:
        assert source.rows == counts.get(source.build, 0)
        assert source.kept == source.rows + sum(source.left_out.values())
    summary = mixed.summary()
    assert summary["left_out"] == {source.build: source.left_out for source in mixed.lock.sources}
    for reason, total in (("duplicate_between_sources", "duplicates_between_sources"), ("like_heldout",) * 2):
        assert sum(left.get(reason, 0) for left in summary["left_out"].values()) == summary[total]


def test_the_builds_are_what_these_tests_take_them_for(data):
    mixed, rows = published(data, "whole", "real", "made")

    assert mixed.summary()["sources"] == {"real": 60, "made": 30}
    assert dict(rows.group_by("origin").len().sort("origin").rows()) == {"real": 60, "synthetic": 30}
    assert mixed.summary()["left_out"] == {"real": {}, "made": {}}


def test_where_then_cap_then_count_and_what_each_leaves_out(data):
    mixed, rows = published(data, "steps", "real:15", where="margin >= 10", cap=1)

    # 50 of the 60 margins are 10 or more; their prompts are of all 20 groups
    assert mixed.summary()["left_out"] == {"real": {"where": 10, "cap": 30, "count": 5}}
    assert rows.height == 15 == rows["prompt_group"].n_unique()
    assert (rows["score_chosen"] >= 10).all()
    assert_accounted(mixed, rows)
    assert "real: 60 kept by screening, -10 where, -30 cap, -5 count = 15 in the mix" in mixed.lines()


def test_a_source_is_drawn_alike_whatever_it_is_mixed_with(data):
    _, alone = published(data, "alone", "real:0.5")
    _, beside = published(data, "beside", "made:10", "real:0.5")
    _, fewer = published(data, "fewer", "real:20")

    assert set(alone["pair_id"]) == set(beside.filter(source="real")["pair_id"])
    assert set(fewer["pair_id"]) <= set(alone["pair_id"])


def test_add_reaches_the_ratio_in_the_training_rows_and_leaves_held_out_rows_alone(data):
    _, whole = published(data, "whole", "real", "made")
    mixed, rows = published(data, "add", "real", "made", ratio="1:4")

    train = rows.filter(split="train")
    real = train.filter(origin="real").height
    assert train.filter(origin="synthetic").height == round(real / 4)
    assert rows.filter(split="heldout").equals(whole.filter(split="heldout"))
    assert rows.filter(origin="real").equals(whole.filter(origin="real"))
    assert_accounted(mixed, rows)


def test_replace_keeps_the_number_of_training_rows(data):
    _, real_alone = published(data, "real-alone", "real")
    mixed, rows = published(data, "replace", "real", "made", ratio="0.25", mode="replace")
    _, fewer = published(data, "replace-rows", "real", "made", ratio="0.25", mode="replace", rows=20)

    train = rows.filter(split="train")
    assert train.height == real_alone.filter(split="train").height
    assert train.filter(origin="synthetic").height == round(train.height / 5)
    assert fewer.filter(split="train").group_by("origin").len().sort("origin")["len"].to_list() == [16, 4]
    assert_accounted(mixed, rows)


def test_a_ratio_without_synthetic_pairs_is_refused_and_writes_nothing(data):
    with pytest.raises(UserError, match="mix 'refused' has no synthetic training pair"):
        published(data, "refused", "real", ratio="1:4")

    assert not list(Workspace(data).mixes.glob("*refused*"))


def test_sources_are_balanced_in_the_training_rows(data):
    mixed, rows = published(data, "balanced", "real", "made", balance=("source",))

    counts = dict(rows.filter(split="train")["source"].value_counts().rows())
    assert counts["real"] == counts["made"] > 20
    assert list(mixed.summary()["left_out"]["real"]) == ["balance"]
    assert_accounted(mixed, rows)


def test_the_order_of_a_source_is_preserved_among_the_others(data):
    text = "[[source]]\nbuild = 'real'\norder = 'preserved'\n[[source]]\nbuild = 'made'\n"
    _, rows = by_recipe(data, "in-order", text)
    _, shuffled = published(data, "whole", "real", "made")
    build = Workspace(data).open_pairs(Workspace(data).read_build("real")).scan().collect()["pair_id"].to_list()

    own = rows.filter(split="train", source="real")["pair_id"].to_list()
    assert own == [pair for pair in build if pair in set(own)]
    assert own != shuffled.filter(split="train", source="real")["pair_id"].to_list()
    assert set(rows["source"][:20]) == {"real", "made"}


def test_a_folder_that_holds_only_a_recipe_is_published(data):
    text = (
        "heldout_share = 0.2\n[[source]]\nbuild = 'real'\nwhere = \"chosen_chars < 150\"\n[[source]]\nbuild = 'made'\n"
    )
    mixed, rows = by_recipe(data, "by-hand", text)

    assert rows.filter(source="real")["chosen"].list.first().struct.field("content").str.len_chars().max() < 150
    assert_accounted(mixed, rows)
    # again from the lock and the recipe, also where a file of rows was lost
    mixed.path.joinpath("train-00000-of-00001.parquet").unlink()
    assert mix(MixConfig(name="by-hand", data=data)).lock == mixed.lock


def test_the_file_of_a_recipe_is_left_as_it_is_and_gives_the_mix_of_its_flags(data, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("# mine\n[[source]]\nbuild = 'real'\nshare = 0.5\ncap = 2\n")
    before = path.read_bytes()

    from_file, _ = published(data, "from-file", recipe=path)
    again, _ = published(data, "from-file", recipe=path)
    from_flags, _ = published(data, "from-flags", "real:0.5", cap=2)

    assert path.read_bytes() == before
    assert from_file.lock == again.lock
    assert from_file.lock.sha256 == from_flags.lock.sha256


@pytest.mark.parametrize(
    ("add", "options", "problem"),
    [
        (("real:61",), {}, "source real: a count of 61 is more than the 60 pairs there are;"),
        (("real:21",), {"cap": 1}, "source real: a count of 21 is more than the 20 pairs there are after cap"),
        (("real:0.001",), {}, "source real: a share of 0.001 of its 60 pairs is no pair"),
        (("made", "real"), {"where": "margin > 0"}, "source made would be empty: none of its 30 pairs meets its where"),
        (("real",), {"where": "random() < 0.5"}, "source real: where .* calls 'random'"),
        (("real", "real2"), {"where": "random() < 0.5"}, "no build 'real2'"),
    ],
)
def test_what_a_source_cannot_give_is_refused_with_what_there_is(data, add, options, problem):
    with pytest.raises(UserError, match=problem):
        published(data, "refused", *add, **options)

    assert not list(Workspace(data).mixes.glob("*refused*"))


def test_what_another_source_has_too_is_accounted_for(data):
    build(BuildConfig(source=str(data / "real.jsonl"), name="copy", data=data, **APART))

    mixed, rows = published(data, "twice", "real:0.5", "copy:50", "made")

    assert mixed.lock.duplicates_between_sources > 0
    assert list(mixed.summary()["left_out"]["copy"]) == ["count", "duplicate_between_sources"]
    assert mixed.summary()["sources"]["real"] == 30
    assert_accounted(mixed, rows)


def test_training_rows_like_a_held_out_row_are_accounted_for(data):
    # Ten families of four prompts that differ in one word of thirty.
    families = [" ".join(word(f"f{i}w{k}")[:8] for k in range(30)) for i in range(10)]
    rows = [
        {"prompt": f"{family} {word(str(j))[:8]}?", "chosen": f"It is the {family}.", "rejected": "It is not known."}
        for family in families
        for j in range(4)
    ]
    path = data / "families.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(BuildConfig(source=str(path), name="families", data=data, **APART))

    mixed, rows = published(data, "like", "families", "real", heldout_share=0.2)

    assert mixed.lock.like_heldout > 0
    assert list(mixed.summary()["left_out"]["families"]) == ["like_heldout"]
    assert_accounted(mixed, rows)


def test_a_condition_sees_what_screening_flagged(data):
    path = data / "cut.jsonl"
    rows = [
        {
            "prompt": f"Who is {word(f'{i}')}?",
            "chosen": f"It is {word(f'{i}x')} who" + (" lives here." if i % 2 else " was not there"),
            "rejected": f"No, it is {i}.",
        }
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(BuildConfig(source=str(path), name="cut", data=data, **APART))

    _, mixed = published(data, "flagged", "cut", where="list_contains(flags, 'maybe_truncated')")

    chosen = mixed["chosen"].list.first().struct.field("content")
    assert chosen.str.ends_with("there").to_list() == [True] * 6
    lineage = Workspace(data).open_mix("flagged").lineage().collect()
    assert lineage["flags"].to_list() == [["maybe_truncated"]] * 6


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30)), st.floats(0, 0.9), st.integers(0, 3))
def test_a_group_is_held_out_by_its_hash_or_because_a_source_holds_out_a_row_of_it(groups, held, share, seed):
    # Also where the recipe leaves out the very row that the source holds out.
    pairs = pl.DataFrame({"prompt_group": [str(group) for group in groups]})
    heldout = pl.Series([str(group) for group in held], dtype=pl.String)
    recipe = Recipe("v1", seed, share, (Source("sft", 1.0),))

    split = dict(split_groups(pairs, recipe, heldout).rows())
    alone = dict(split_groups(pairs, recipe, heldout.clear()).rows())

    assert split.keys() == set(pairs["prompt_group"])
    for group, side in split.items():
        assert side == ("heldout" if group in set(heldout) else alone[group])
