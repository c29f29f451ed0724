"""A name is a name and never a pattern, from the source to the tokens of a run."""

import json

import polars as pl
import pytest
from garden import PAIRS
from transformers import GenerationConfig

from curate.config import BuildConfig, ExplainConfig, MixConfig, ScreenConfig, ShowConfig
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.pipeline.rescreen import rescreen
from curate.report.explain import explain
from curate.report.show import show
from curate.store.workspace import Workspace
from eval.matchup import selecting_scorers
from train.data.chat import read_chat
from train.data.mix_reader import read_mix
from train.data.pair_weights import read_weights
from train.data.token_store import token_rows

SIGNS = ["da[1]ta*", "da?a", "[!d]ata", "{data,date}", "source=1", "it's"]


def write_pairs(path, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as stream:
        pl.DataFrame(rows).write_parquet(stream)
    return str(path)


@pytest.mark.parametrize("name", SIGNS)
def test_a_data_folder_named_like_a_pattern_is_read_by_every_step(tmp_path, tokenizer, name):
    folder = tmp_path / name
    source = write_pairs(tmp_path / name / "pairs[1].parquet", PAIRS)

    built = build(BuildConfig(source=source, name="garden", max_cosine=1.0, data=folder))
    screened = rescreen(ScreenConfig(name="garden", data=folder))
    mixed = mix(MixConfig(name="v1", add=("garden",), data=folder))
    read = read_mix(folder, "v1", None)
    chat = read_chat("smollm2", tokenizer, GenerationConfig())
    rows = token_rows(folder / "tokens", chat, read.texts("pair")["train"], "train", 512)

    assert built.pairs.rows == len(PAIRS)
    assert len(rows) == read.counts["train"] > 0
    assert screened.summary()["kept"] == mixed.summary()["rows"]
    pair_id = next(read.pairs("train"))["pair_id"]
    assert pair_id in json.dumps(explain(ExplainConfig(pair_id, data=folder)).summary())
    assert show(ShowConfig("v1", data=folder)).summary()["pairs"]
    assert selecting_scorers(Workspace(folder).open_mix("v1")) == {"imported"}


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_weights_are_those_of_the_named_file(tmp_path, kind):
    for name, weight in (("w[1]", 2.0), ("w1", 7.0)):
        path = tmp_path / f"{name}.{kind}"
        frame = pl.DataFrame({"pair_id": ["a"], "weight": [weight]})
        with path.open("wb") as stream:
            {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[kind](stream)

    assert read_weights(tmp_path / f"w[1].{kind}", ["a"]).tolist() == [2.0]
