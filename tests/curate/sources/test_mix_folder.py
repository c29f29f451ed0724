"""A published mix is read wherever its folder lies: rows of training, or with a split what it holds out."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
from published import publish_mix

from curate.config import BuildConfig, MixConfig
from curate.files import Damaged, file_sha256
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.sources.prompts import read_prompts
from curate.sources.rows import raw_rows, rows_config
from curate.store.mixes import open_mix_folder, write_lock
from curate.store.workspace import Workspace
from schemas.errors import UserError

# Nothing is embedded, which takes long.
OFF = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a mix that was copied under another name, away from its data folder."""
    made = publish_mix(tmp_path_factory.mktemp("origin"))
    return shutil.copytree(made, tmp_path_factory.mktemp("elsewhere") / "copied")


def read(spec, **options):
    return list(raw_rows(rows_config(str(spec), options.get("num_rows"), options.get("seed"))))


def chosen(rows):
    return [row["chosen"][0]["content"] for row in rows]


def built_pairs(source, data, **options):
    build(BuildConfig(source=str(source), name="back", data=data, **options))
    workspace = Workspace(data)
    return workspace.open_pairs(workspace.read_build("back")).scan().collect()


def test_without_a_split_what_is_held_out_is_not_read(folder):
    rows = {split: open_mix_folder(folder).scan(split).collect().to_dicts() for split in ("train", "heldout")}

    assert chosen(read(folder)) == chosen(read(f"{folder}:train")) == chosen(rows["train"])
    assert chosen(read(f"{folder}:test")) == chosen(rows["heldout"])
    assert chosen(read(f"{folder}:train+test")) == chosen([*rows["train"], *rows["heldout"]])
    assert len({rows_config(f"{folder}{end}", None, None).sha256 for end in (":train", ":test", ":train+test")}) == 3


def test_a_shuffle_gives_the_first_rows_of_the_same_order(folder):
    assert sorted(chosen(read(folder, seed=3))) == sorted(chosen(read(folder)))
    assert read(folder, seed=3, num_rows=5) == read(folder, seed=3)[:5]


def test_prompts_are_those_of_training_alone(folder):
    held = {row["prompt"][0]["content"] for row in read(f"{folder}:test")}

    (part,) = read_prompts(rows_config(str(folder), None, 30))

    assert part.rows.height == 26
    assert held.isdisjoint(part.rows["messages"].list.first().struct.field("content"))


def test_a_build_of_a_copied_folder_marks_what_is_held_out(folder, tmp_path):
    pairs = built_pairs(folder, tmp_path, skip_rule=OFF)

    assert pairs.height == 30
    assert set(pairs.filter("is_heldout")["chosen"]) == set(chosen(read(f"{folder}:test")))
    assert set(pairs["scorer"]) == {"imported"}
    assert pairs["score_chosen"].n_unique() == 30


def test_licenses_come_along_unless_one_is_given(tmp_path):
    terms = "CC-BY-4.0 AND LicenseRef-OpenAI-terms AND MIT"
    made = publish_mix(tmp_path / "origin", count=12, license=terms)

    assert set(built_pairs(made, tmp_path, skip_rule=OFF)["license"]) == {terms}
    assert set(built_pairs(made, tmp_path, skip_rule=OFF, license="mit")["license"]) == {"MIT"}


def test_a_mix_that_holds_nothing_out_is_read(tmp_path):
    made = publish_mix(tmp_path / "origin", count=12, heldout_share=0.0)

    assert not built_pairs(made, tmp_path, skip_rule=OFF)["is_heldout"].any()
    with pytest.raises(UserError, match=":test has no rows"):
        read(f"{made}:test")


def test_an_unknown_split_is_named_with_the_known_ones(folder):
    with pytest.raises(UserError) as error:
        rows_config(f"{folder}:dev", None, None)

    assert str(error.value) == (
        f"{folder} has no split 'dev'; name one of train, test, train+test, as in {folder}:test"
    )


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "lineage.parquet", "lock.json"])
def test_a_folder_that_is_not_what_was_written_is_refused(name, folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "damaged")
    (copied / name).write_bytes((copied / name).read_bytes()[:-1] + b"x")

    with pytest.raises(Damaged, match=f"{name} is damaged"):
        build(BuildConfig(source=str(copied), name="back", data=tmp_path))


def test_a_folder_without_its_lock_is_no_mix(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "begun")
    (copied / "lock.json").unlink()

    with pytest.raises(UserError, match="is a folder that save_to_disk did not write"):
        rows_config(str(copied), None, None)


def change_lineage(folder, change):
    """Writes another lineage, which the lock says."""
    path = folder / "lineage.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    lock = open_mix_folder(folder).lock
    write_lock(folder, replace(lock, files={**lock.files, path.name: file_sha256(path)}))


def test_what_the_lineage_says_of_a_pair_comes_along(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "sampled")
    told = {
        "z_chosen": pl.col("answers").cum_count().cast(pl.Float64),
        "reasoning_rejected": "thought of " + pl.col("pair_id"),
        "chosen_finish": pl.lit("stop"),
        "chosen_call": pl.lit("a call of another ledger"),
    }
    change_lineage(copied, lambda lineage: lineage.with_columns(**told))

    pairs = built_pairs(copied, tmp_path, skip_rule=OFF)

    lineage = open_mix_folder(copied).lineage().collect()
    expected = lineage.select("pair_id", "z_chosen", "chosen_finish", rejected_reasoning="reasoning_rejected")
    assert pairs.select(expected.columns).sort("pair_id").equals(expected.sort("pair_id"))
    assert pairs["chosen_call"].null_count() == 30


def test_a_lineage_of_other_pairs_is_refused(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "reversed")
    change_lineage(copied, pl.DataFrame.reverse)

    with pytest.raises(Damaged, match=r"lineage\.parquet is of other pairs than the rows"):
        read(copied)


TOOLS = [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
CALLED = [
    {"role": "user", "content": "How warm is it in Oslo?"},
    {"role": "tool_call", "content": '[{"name": "weather", "arguments": {"city": "Oslo"}}]'},
    {"role": "tool", "content": '{"degrees": 4}'},
]
SYSTEM = [{"role": "system", "content": ""}, {"role": "user", "content": "Say it again, please."}]
LONG = [
    {"role": "user", "content": "\n\nHuman: what is this?\n\nAssistant:"},
    {"role": "assistant", "content": " "},
    {"role": "user", "content": "[{'role': 'user', 'content': 'a list'}]"},
]
AWKWARD = [
    (CALLED, "It is 4 degrees.", "It is hot."),
    (SYSTEM, " with space around \n", "\tnone of it\n\n"),
    (LONG, '{"role": "user", "content": "no turn"}', "### Human: a\n### Assistant: b"),
    ([{"role": "user", "content": "ü\u2028\u0000\U0001f600 e\u0301?"}], "<|im_start|>user\nhi", "\ufeff<s>[INST]"),
    ([{"role": "user", "content": "Is it?"}], "Human: yes\n\nAssistant: no", '["a", "b"]'),
    ([{"role": "user", "content": "Why 17?"}], "Because 17 is prime.", "Because."),
]


def test_awkward_conversations_come_back_as_they_were(tmp_path):
    source = tmp_path / "source.jsonl"
    rows = [
        {
            "prompt": prompt,
            "chosen": [{"role": "assistant", "content": better}],
            "rejected": [{"role": "assistant", "content": worse}],
            **({"tools": TOOLS} if prompt is CALLED else {}),
        }
        for prompt, better, worse in AWKWARD
    ]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    off = {"min_tokens": 0, "max_echo": 1.0, "max_repetition": 1.0, "max_other_language": 1.0, "skip_rule": OFF}
    off |= {"allow_degenerate_rejected": True}
    origin = tmp_path / "origin"
    build(BuildConfig(source=str(source), name="awkward", data=origin, **off))
    made = mix(MixConfig(name="v1", add=("awkward",), heldout_share=0.5, data=origin)).path
    workspace = Workspace(origin)
    before = workspace.open_pairs(workspace.read_build("awkward")).scan().collect()

    after = built_pairs(made, tmp_path / "data", **off)

    published = open_mix_folder(made).scan().collect()
    kept = before.join(published.select("pair_id"), on="pair_id", how="semi")
    assert kept.height >= 4
    columns = [name for name in before.columns if name not in ("prompt_id", "is_heldout")]
    assert after.select(columns).sort("pair_id").equals(kept.select(columns).sort("pair_id"))
    held = published.filter(pl.col("split") == "heldout")
    assert set(after.filter("is_heldout")["pair_id"]) == set(held["pair_id"])
    assert any(turn["role"] == "tool_call" for turns in after["messages"].to_list() for turn in turns)
