"""A mix is read in order, as much of it as is asked for, and never whole."""

from dataclasses import replace

import polars as pl
import pytest

from curate.files import file_sha256
from curate.store.mixes import open_mix_folder, write_lock
from schemas.errors import UserError
from train.data import mix_reader as mix_rows
from train.data.mix_reader import read_mix


def chosen(mix, split="train"):
    return [row["chosen"] for row in mix.pairs(split)]


@pytest.mark.parametrize("max_rows", [None, 1, 7, 100])
def test_the_rows_of_a_split_come_in_order_up_to_the_limit(make_mix, few_pairs, max_rows):
    data = make_mix(few_pairs, heldout=2)

    mix = read_mix(data, "v1", max_rows)

    expected = [pair[1] for pair in few_pairs]
    assert chosen(mix) == expected[:7][:max_rows]
    assert chosen(mix, "heldout") == expected[7:]
    assert mix.counts == {"train": len(chosen(mix)), "heldout": 2}


def test_a_mix_without_held_out_rows_has_none(make_mix, few_pairs):
    mix = read_mix(make_mix(few_pairs), "", None)

    assert (mix.name, chosen(mix, "heldout"), mix.counts["heldout"]) == ("v1", [], 0)


def test_rows_are_read_a_few_at_a_time(make_mix, few_pairs, monkeypatch):
    mix = read_mix(make_mix(few_pairs, heldout=3), "v1", None)
    whole = list(mix.pairs("train"))

    monkeypatch.setattr(mix_rows, "ROWS_AT_ONCE", 2)

    assert list(mix.pairs("train")) == whole
    assert whole[0].keys() == {"pair_id", "messages", "chosen", "rejected", "tools"}
    assert whole[0]["messages"] == [{"role": "user", "content": "What is tea?"}]


def test_a_limit_beyond_the_mix_is_no_limit(make_mix, few_pairs):
    data = make_mix(few_pairs)

    identities = [read_mix(data, "v1", max_rows).texts("pair")["train"].identity for max_rows in (None, 9, 50, 8)]

    assert identities[0] == identities[1] == identities[2] != identities[3]


def test_the_texts_of_a_pair_and_of_a_conversation_are_the_same_row(make_mix, few_pairs):
    mix = read_mix(make_mix(few_pairs), "v1", 1)

    (pair,) = mix.texts("pair")["train"].rows()
    (conversation,) = mix.texts("conversation")["train"].rows()

    row_id, messages, first, second, tools = pair
    assert (first, second) == few_pairs[0][1:]
    assert conversation == (row_id, [*messages, {"role": "assistant", "content": first}], None)
    assert tools is None
    assert mix.texts("pair")["train"].count == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("lock.json", "lock.json is missing; make it again with: curate mix v1"),
        ("train-00000-of-00001.parquet", "is missing .*; make it again with: curate mix v1"),
        ("bytes", "is damaged: it is not what was written; make it again with: curate mix v1"),
    ],
)
def test_a_mix_that_is_not_there_as_locked_is_refused(make_mix, few_pairs, damage, message):
    data = make_mix(few_pairs)
    if damage == "bytes":
        (data / "mixes" / "v1" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    else:
        (data / "mixes" / "v1" / damage).unlink()

    with pytest.raises(UserError, match=message):
        read_mix(data, "v1", None)


def test_rows_of_several_files_come_one_file_after_the_other(make_mix, few_pairs):
    data = make_mix(few_pairs)
    folder = data / "mixes" / "v1"
    mix = open_mix_folder(folder)
    whole = pl.read_parquet(folder / "train-00000-of-00001.parquet")
    for number, part in enumerate((whole[:4], whole[4:])):
        part.write_parquet(folder / f"train-0000{number}-of-00002.parquet")
    (folder / "train-00000-of-00001.parquet").unlink()
    write_lock(folder, replace(mix.lock, files={path.name: file_sha256(path) for path in folder.glob("*.parquet")}))

    assert chosen(read_mix(data, "v1", None)) == [pair[1] for pair in few_pairs]


def test_a_mix_of_held_out_rows_alone_is_refused(make_mix, few_pairs):
    data = make_mix(few_pairs, heldout=len(few_pairs))

    with pytest.raises(UserError, match="has no training rows"):
        read_mix(data, "v1", None)
