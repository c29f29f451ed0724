import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixes import folder_bytes, read_rows

from curate.config import BuildConfig, MixConfig
from curate.files import file_sha256
from curate.mix.choose import random_share
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.store.mixes import open_mix_folder, write_lock
from schemas.errors import UserError
from schemas.ids import hash_ids
from schemas.tables import MixLineage, MixRow


def write_pairs(path, count, label, prompts=None):
    rows = [
        {
            "prompt": prompts[i] if prompts else f"{label} question {i} about {hash_word(label, i)}",
            "chosen": f"{label} good answer {i}",
            "rejected": f"{label} poor answer {i}",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hash_word(label, i):
    return hash_ids(pl.Series([f"{label}{i}"]), 0, "word").item()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory with the builds 'real' (60 pairs) and 'other' (20 pairs)."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("real", 60), ("other", 20)):
        path = write_pairs(folder / f"{name}.jsonl", count, name)
        # Prompts of one template are near duplicates, which is not what is tested here.
        build(BuildConfig(source=str(path), name=name, max_cosine=1.0, data=folder))
    return folder


def published(data, name, *add, **options):
    mixed = mix(MixConfig(name=name, add=add, data=data, **options))
    return mixed, read_rows(mixed.path)


def test_a_mix_holds_every_kept_pair_once_and_the_sums_agree(data):
    mixed, rows = published(data, "all", "real", "other")

    summary = mixed.summary()
    assert summary["rows"] == rows.height == summary["train"] + summary["heldout"] == sum(summary["sources"].values())
    assert summary["sources"] == {"real": 60, "other": 20}
    assert rows["pair_id"].is_unique().all()
    MixRow.validate(open_mix_folder(mixed.path).scan().drop("split").collect())
    MixLineage.validate(open_mix_folder(mixed.path).lineage().collect())


def test_synthetic_and_real_pairs_are_interleaved(data):
    _, rows = published(data, "interleaved", "real", "other", heldout_share=0.0)

    positions = rows.filter(source="other")["row"].to_list()
    assert min(positions) < 20
    assert max(positions) > 60


def test_the_same_recipe_gives_the_same_bytes(data):
    first, _ = published(data, "again", "real", "other:0.5")
    before = folder_bytes(first.path)
    shutil.rmtree(first.path)

    second, _ = published(data, "again", "real", "other:0.5")
    anew = folder_bytes(second.path)
    (second.path / "lineage.parquet").unlink()
    third, _ = published(data, "again")

    assert anew == folder_bytes(third.path) == before
    assert first.summary() == second.summary() == third.summary()


def test_another_name_gives_the_same_rows(data):
    one, _ = published(data, "name-one", "real", "other:0.5")
    two, _ = published(data, "name-two", "real", "other:0.5")

    assert one.lock.sha256 == two.lock.sha256


@pytest.mark.parametrize(
    ("add", "options", "difference"),
    [
        (("real:0.5",), {}, r"sources real:1 -> real:0.5"),
        (("real",), {"seed": 31}, r"seed 30 -> 31"),
        (("real",), {"heldout_share": 0.2}, r"heldout_share 0.1 -> 0.2"),
    ],
)
def test_a_published_mix_is_never_overwritten(data, add, options, difference):
    published(data, "fixed", "real")

    with pytest.raises(UserError, match=difference):
        published(data, "fixed", *add, **options)


def test_a_mix_stays_as_locked_when_its_build_changes(tmp_path):
    path = write_pairs(tmp_path / "real.jsonl", 30, "real")
    build(BuildConfig(source=str(path), name="real", max_cosine=1.0, data=tmp_path))
    first, _ = published(tmp_path, "v1", "real")
    before = folder_bytes(first.path)
    write_pairs(path, 40, "changed")
    build(BuildConfig(source=str(path), name="real", max_cosine=1.0, data=tmp_path))
    for name in ("train-00000-of-00001.parquet", "README.md"):
        (first.path / name).unlink()

    second, _ = published(tmp_path, "v1", "real")
    third, _ = published(tmp_path, "v2", "real")

    assert folder_bytes(second.path) == before
    assert third.summary()["rows"] == 40


def test_rows_that_a_crash_left_are_no_part_of_the_mix_that_is_published_then(data):
    folder = data / "mixes" / "crashed"
    folder.mkdir(parents=True)
    for name in ("train-00001-of-00002.parquet", "test-00000-of-00001.parquet"):
        (folder / name).write_bytes(b"rows of then")

    mixed, _ = published(data, "crashed", "other", heldout_share=0.0)

    assert {path.name for path in folder.iterdir()} == {*mixed.lock.files, "checksums.txt", "lock.json"}
    assert not list(data.glob("mixes/.*"))


def test_a_lost_file_is_made_again_beside_a_card_that_is_written_otherwise_now(data):
    mixed, _ = published(data, "older", "real")
    (mixed.path / "README.md").write_text("The card as it was written then.")
    write_lock(
        mixed.path, replace(mixed.lock, files={**mixed.lock.files, "README.md": file_sha256(mixed.path / "README.md")})
    )
    before = folder_bytes(mixed.path)
    for name in ("train-00000-of-00001.parquet", "checksums.txt"):
        (mixed.path / name).unlink()

    published(data, "older")

    assert folder_bytes(mixed.path) == before


def test_a_lost_card_that_is_written_otherwise_now_is_refused(data):
    mixed, _ = published(data, "old-card", "real")
    (mixed.path / "README.md").unlink()
    write_lock(mixed.path, replace(mixed.lock, files={**mixed.lock.files, "README.md": "0" * 64}))

    with pytest.raises(UserError, match=r"README\.md could not be made again"):
        published(data, "old-card")

    assert not list(data.glob("mixes/.*"))


def test_a_card_that_was_edited_stays_as_it_is(data):
    mixed, _ = published(data, "edited-card", "real")
    (mixed.path / "README.md").write_text("# My own words\n")
    (mixed.path / "croissant.json").unlink()

    published(data, "edited-card")

    assert (mixed.path / "README.md").read_text() == "# My own words\n"
    assert (mixed.path / "croissant.json").exists()


def test_rows_of_one_prompt_group_lie_on_one_side_of_the_split(tmp_path):
    prompts = [f"Question {i // 4}?" if i % 2 else f"question {i // 4}" for i in range(80)]
    path = write_pairs(tmp_path / "real.jsonl", 80, "real", prompts)
    # Near-duplicate prompts would leave one pair a group; a threshold of 1 keeps what differs at all.
    build(BuildConfig(source=str(path), name="real", max_cosine=1.0, data=tmp_path))

    _, rows = published(tmp_path, "v1", "real", heldout_share=0.3)

    sides = rows.group_by("prompt_group").agg(pl.col("split").n_unique())
    assert sides["split"].to_list() == [1] * sides.height
    assert 0 < rows.filter(split="heldout").height < rows.height


def test_a_group_held_out_stays_held_out_in_a_larger_mix(data):
    _, small = published(data, "small", "real:0.5", heldout_share=0.3)
    _, large = published(data, "large", "real", "other", heldout_share=0.3)

    sides = small.join(large, on="pair_id").filter(
        (pl.col("split") == "heldout") & (pl.col("split_right") != "heldout")
    )
    # The group that is held out only because a mix must hold something out may move.
    assert sides.height <= 1


def test_a_mix_of_two_groups_has_something_held_out(tmp_path):
    path = write_pairs(tmp_path / "real.jsonl", 2, "real")
    build(BuildConfig(source=str(path), name="real", max_cosine=1.0, data=tmp_path))

    assert published(tmp_path, "v1", "real")[0].summary()["heldout"] == 1


def test_the_same_pair_in_two_builds_is_one_pair_of_the_source_named_first(data, tmp_path):
    source = data / "real.jsonl"
    for name in ("one", "two"):
        build(BuildConfig(source=str(source), name=name, max_cosine=1.0, data=tmp_path))

    mixed, _ = published(tmp_path, "v1", "two", "one")

    assert mixed.summary()["sources"] == {"two": 60, "one": 0}
    assert mixed.lock.duplicates_between_sources == 60


@pytest.mark.parametrize(
    ("add", "problem"),
    [
        (("rael",), "no build 'rael'.*did you mean 'real'"),
        (("real:0",), "above 0"),
        (("real:nan",), "above 0"),
        (("real:1.5",), "at most 1"),
        (("real:half",), "'half' is not a number"),
        (("real", "real:0.5"), "given twice"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(data, add, problem):
    with pytest.raises(UserError, match=problem):
        published(data, "refused", *add)

    assert not list((data / "mixes").glob("refused*"))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("seed = 31", "belongs to another recipe"),
        ("heldout_share = 1.0", "outside 0 to 1"),
        ("heldout_share = nan", "outside 0 to 1"),
        ('name = "other"', "is the recipe of mix 'other'"),
        ("seed = ", "is not TOML"),
    ],
)
def test_a_recipe_changed_by_hand_never_changes_a_published_mix(data, line, problem):
    mixed, _ = published(data, "by-hand", "real")
    recipe = mixed.path / "recipe.toml"
    before, text = folder_bytes(mixed.path), recipe.read_text()
    field = line.split(" = ")[0]
    recipe.write_text("".join(f"{line}\n" if row.startswith(field) else row for row in text.splitlines(keepends=True)))

    with pytest.raises(UserError, match=problem):
        published(data, "by-hand")
    recipe.write_text(text)

    assert folder_bytes(mixed.path) == before


def test_a_recipe_copied_under_another_name_is_refused(data):
    mixed, _ = published(data, "original", "real")
    before = folder_bytes(mixed.path)
    (data / "mixes" / "copy").mkdir()
    shutil.copy(mixed.path / "recipe.toml", data / "mixes" / "copy")

    with pytest.raises(UserError, match="set its name to 'copy'"):
        published(data, "copy")

    assert folder_bytes(mixed.path) == before


def test_a_pair_that_is_numbered_in_one_build_is_the_same_pair_in_another(tmp_path):
    row = {"prompt": "Is one a number?", "chosen": "Yes, one is.", "rejected": "No, it is none.", "score_rejected": 0.0}
    for name, scores in (("twice", (1.0, 2.0)), ("once", (1.0,))):
        rows = [{**row, "score_chosen": score} for score in scores]
        # Another pair, so that there is a training group beside a held-out one.
        rows.append({**row, "prompt": f"Who is {name}?", "chosen": f"It is {name}.", "score_chosen": 1.0})
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        build(BuildConfig(source=str(path), data=tmp_path))

    mixed, rows = published(tmp_path, "v1", "twice", "once")

    assert rows["chosen"].to_list().count("Yes, one is.") == 1
    assert mixed.summary()["sources"] == {"twice": 2, "once": 1}


def test_a_damaged_table_is_made_again_before_it_is_mixed(tmp_path):
    path = write_pairs(tmp_path / "real.jsonl", 8, "real")
    built = build(BuildConfig(source=str(path), max_cosine=1.0, data=tmp_path))
    file = built.pairs.whole_files()[0]
    before = file.read_bytes()
    file.write_bytes(before + b"x")

    published(tmp_path, "v1", "real")

    assert file.read_bytes() == before


def test_a_damaged_table_whose_source_is_gone_is_not_mixed(tmp_path):
    path = write_pairs(tmp_path / "real.jsonl", 8, "real")
    built = build(BuildConfig(source=str(path), max_cosine=1.0, data=tmp_path))
    file = built.pairs.whole_files()[0]
    file.write_bytes(file.read_bytes() + b"x")
    path.unlink()

    with pytest.raises(UserError, match=r"is damaged.* cannot be made again here .*; restore it, or give the curate"):
        published(tmp_path, "v1", "real")


def test_an_unknown_mix_names_the_nearest(data):
    published(data, "version1", "real")

    with pytest.raises(UserError, match="did you mean 'version1'"):
        published(data, "verson1")


def test_a_mix_without_a_kept_pair_is_refused(tmp_path):
    path = tmp_path / "same.jsonl"
    path.write_text(json.dumps({"prompt": "Is b a letter?", "chosen": "Yes, b is.", "rejected": "Yes, b is."}) + "\n")
    build(BuildConfig(source=str(path), name="same", data=tmp_path))

    with pytest.raises(UserError, match="would be empty"):
        published(tmp_path, "v1", "same")


@given(st.integers(1, 60), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 3))
def test_a_larger_share_contains_the_smaller_and_has_its_size(rows, one, two, seed):
    ids = pl.DataFrame({"pair_id": [f"{i:016x}" for i in range(rows)]})
    small, large = sorted((one, two))

    fewer, more = (random_share(ids, share, seed) for share in (small, large))

    assert set(fewer["pair_id"]) <= set(more["pair_id"])
    assert more.height == round(large * rows)


def test_the_name_of_a_mix_of_an_earlier_format_is_not_taken(data):
    (data / "mixes" / "early.lock.json").write_text('{"format": 3}')

    for add in ((), ("real",)):
        with pytest.raises(UserError, match=r"early\.lock\.json was written by an earlier pairwright \(format 3"):
            published(data, "early", *add)

    assert not (data / "mixes" / "early").exists()
