from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.config import MixConfig
from curate.mix.recipe import Recipe, Source, check_recipe, parse_ratio, parse_source, read_recipe
from curate.mix.resolve import resolve_recipe
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.ids import digest

PLAIN = Recipe("v1", 30, 0.1, (Source("sft", 0.5), Source("uf", 1.0)))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("sft", Source("sft", 1.0)),
        ("sft:0.25", Source("sft", 0.25)),
        ("sft:25%", Source("sft", 0.25)),
        ("sft: 25 %", Source("sft", 0.25)),
        ("sft:100%", Source("sft", 1.0)),
        ("sft:12.5%", Source("sft", 0.125)),
        ("sft:1e1%", Source("sft", 0.1)),
        # one is all of it, and only a whole number above that is a count
        ("sft:1", Source("sft", 1.0)),
        ("sft:1.0", Source("sft", 1.0)),
        ("sft:2", Source("sft", 1.0, 2)),
        ("sft:500", Source("sft", 1.0, 500)),
        ("sft:0500", Source("sft", 1.0, 500)),
    ],
)
def test_an_amount_is_a_share_a_percentage_or_a_count(text, source):
    assert parse_source(text) == source


@pytest.mark.parametrize("text", ["sft:", "sft:%", "sft:x%", "sft:25%%", "sft:nan%", "sft:inf%", "sft:25 percent"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(UserError, match=r"is not a number; write BUILD:SHARE, for example sft:0.5 or sft:50%"):
        parse_source(text)


@given(st.integers(1, 1000))
def test_tenths_of_a_percent_are_the_very_number_of_the_share(tenths):
    percent, share = f"{tenths // 10}.{tenths % 10}%", f"{tenths // 1000}.{tenths % 1000:03}"

    # A mix made with one is the mix made with the other.
    assert parse_source(f"sft:{percent}") == parse_source(f"sft:{share}")


@pytest.mark.parametrize(("value", "ratio"), [("0.25", 0.25), ("1:4", 0.25), ("2 : 1", 2.0), (1, 1.0), ("0.5:2", 0.25)])
def test_a_ratio_is_synthetic_pairs_to_a_real_one(value, ratio):
    assert parse_ratio(value) == ratio


shares = st.floats(0, 1, exclude_min=True)
counts = st.none() | st.integers(1, 10**9)
texts = st.text(st.characters(exclude_categories=["Cs"]))
sources = st.builds(
    lambda build, share, count, *more: Source(build, share if count is None else 1.0, count, *more),
    *(texts, shares, counts, counts, texts, st.sampled_from(["shuffled", "preserved"])),
)
proportions = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"ratio": st.floats(0, 1e9, exclude_min=True), "mode": st.just("add")}),
    st.fixed_dictionaries({"ratio": shares, "mode": st.just("replace"), "rows": counts}),
    st.fixed_dictionaries({"balance": st.sampled_from([("length",), ("source",), ("length", "source")])}),
)
recipes = st.builds(
    lambda name, seed, heldout, of, verdicts, more: Recipe(name, seed, heldout, tuple(of), verdicts, **more),
    texts,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(0, 1, exclude_max=True),
    st.lists(sources, min_size=1, max_size=3, unique_by=lambda source: source.build),
    st.integers(0, 9),
    proportions,
)


@given(recipes)
def test_a_recipe_that_is_written_is_read_as_it_was(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8", newline="")

    assert read_recipe(path) == recipe


@given(recipes, recipes)
def test_recipes_have_one_digest_where_they_are_equal(one, two):
    assert (one.sha256() == two.sha256()) == (one == two)


def test_fields_at_their_default_do_not_enter_the_digest():
    told = {"name": "v1", "seed": 30, "heldout_share": 0.1}
    parts = [{"build": "sft", "share": 0.5}, {"build": "uf", "share": 1.0}]

    assert PLAIN.sha256() == digest({**told, "sources": parts})
    assert replace(PLAIN, min_verdicts=2).sha256() == digest({**told, "min_verdicts": 2, "sources": parts})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'source' is missing"),
        ("source = []", "has no source"),
        ("source = 3", r"source is no \[\[source\]\]"),
        ("[[source]]\nshare = 1", "'build' is missing"),
        ("[[source]]\nbuild = 3", "build: 3 is not a text"),
        ("[[source]]\nbuild = 'a'\nwhree = 'x'", "'whree' is unknown.*did you mean 'where'"),
        ("[[source]]\nbuild = 'a'\nshare = true", "share: True is not a number"),
        ("[[source]]\nbuild = 'a'\nshare = 0", "above 0"),
        ("[[source]]\nbuild = 'a'\nshare = 0.5\ncount = 3", "a share and a count"),
        ("[[source]]\nbuild = 'a'\ncount = 0", "count of a is 0; give 1 or more"),
        ("[[source]]\nbuild = 'a'\ncount = 1.5", "count: 1.5 is not a whole number"),
        ("[[source]]\nbuild = 'a'\ncap = -1", "cap of a is -1"),
        ("[[source]]\nbuild = 'a'\norder = 'random'", "order of a is 'random'"),
        ("[[source]]\nbuild = 'a'\n[[source]]\nbuild = 'a'", "given twice"),
        ("ratio = '1:0'\n[[source]]\nbuild = 'a'", "ratio inf is no number above 0"),
        ("ratio = 'x'\n[[source]]\nbuild = 'a'", "ratio: could not convert"),
        ("ratio = [1]\n[[source]]\nbuild = 'a'", "ratio: "),
        ("ratio = -1\n[[source]]\nbuild = 'a'", "ratio -1 is no number above 0"),
        ("ratio = nan\n[[source]]\nbuild = 'a'", "ratio nan is no number above 0"),
        ("mode = 'replace'\n[[source]]\nbuild = 'a'", "mode replace needs a ratio"),
        ("mode = 'swap'\n[[source]]\nbuild = 'a'", "mode 'swap' is not one"),
        ("ratio = 1\nrows = 9\n[[source]]\nbuild = 'a'", "rows belongs to mode replace"),
        ("balance = ['topic']\n[[source]]\nbuild = 'a'", "balance 'topic' is not one; it is length or source"),
        ("balance = 'length'\n[[source]]\nbuild = 'a'", "balance: 'length' is not a list"),
        ("balance = ['source']\nratio = 1\n[[source]]\nbuild = 'a'", "give one of them"),
        ("min_verdicts = -1\n[[source]]\nbuild = 'a'", "min_verdicts -1 is negative"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_name(tmp_path, text, problem):
    path = tmp_path / "recipe.toml"
    path.write_text(text)

    with pytest.raises(UserError, match=problem) as refused:
        read_recipe(path)
    assert str(path) in str(refused.value)


def test_a_recipe_by_hand_has_the_defaults_of_the_flags(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[[source]]\nbuild = 'sft'\n")

    assert read_recipe(path, "v1") == Recipe("v1", MixConfig(name="v1").seed, 0.1, (Source("sft", 1.0),))


def resolved(folder, **flags):
    return resolve_recipe(MixConfig(name="v1", data=folder, **flags), Workspace(folder))


def test_flags_and_a_file_that_say_the_same_are_the_same_recipe(tmp_path):
    flags = resolved(tmp_path, add=("sft:500", "uf"), where="margin > 1", cap=2, ratio="1:4", mode="replace", rows=99)
    path = tmp_path / "mine.toml"
    path.write_text(replace(flags, name="other").to_toml())

    # the name of the command counts
    assert resolved(tmp_path, recipe=path) == flags
    assert flags.sources == (Source("sft", 1.0, 500, 2, "margin > 1"), Source("uf", 1.0, None, 2, "margin > 1"))
    assert path.read_text() == replace(flags, name="other").to_toml()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"seed": 31}, "--seed is another one than in .*mine.toml"),
        ({"balance": ("length",)}, "--balance is another one"),
        ({"where": "margin > 1"}, "--where does not go with the recipe"),
        ({"cap": 3}, "--cap does not go with the recipe"),
        ({"add": ("sft",)}, "--add and --recipe both"),
        ({"ratio": "one:two"}, "--ratio one:two is neither a number"),
    ],
)
def test_a_flag_that_a_recipe_file_would_lose_is_refused(tmp_path, flags, problem):
    path = tmp_path / "mine.toml"
    path.write_text(PLAIN.to_toml())

    with pytest.raises(UserError, match=problem):
        resolved(tmp_path, recipe=path, **flags)


def test_a_folder_with_another_recipe_is_not_written_over(tmp_path):
    path = Workspace(tmp_path).recipe("v1")
    path.parent.mkdir(parents=True)
    path.write_text(PLAIN.to_toml())

    assert resolved(tmp_path) == PLAIN
    with pytest.raises(UserError, match=r"is another recipe \(sources sft:0.5 \+ uf:1 -> sft:9 \+ uf:1\)"):
        resolved(tmp_path, add=("sft:9", "uf"))


def test_an_unknown_mix_names_the_nearest_recipe(tmp_path):
    path = Workspace(tmp_path).recipe("v2")
    path.parent.mkdir(parents=True)
    path.write_text(PLAIN.to_toml())

    with pytest.raises(UserError, match=r"no mix 'v1' .did you mean 'v2'.*--recipe"):
        resolved(tmp_path)


def test_a_recipe_without_a_source_is_refused():
    with pytest.raises(UserError, match="the flags: mix 'v1' has no source"):
        check_recipe(replace(PLAIN, sources=()), "the flags")
