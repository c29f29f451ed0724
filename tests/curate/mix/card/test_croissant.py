import json
import logging
import shutil

import mlcroissant
import polars as pl
import pytest
from garden import PAIRS, write_rows

from curate.config import BuildConfig, MixConfig
from curate.mix.card.croissant import license_value
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.store.mixes import open_mix_folder

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
pytestmark = [
    # of what mlcroissant itself calls
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning"),
]

TURNS = [
    {"role": "system", "content": "Be brief — und höflich 🙂."},
    {"role": "user", "content": "Which tree is the tallest?"},
    {"role": "assistant", "content": "The redwood."},
    {"role": "user", "content": "How tall is it?\nIn metres, please."},
]
LONG = {
    "prompt": TURNS,
    "chosen": [{"role": "assistant", "content": "The tallest one stands 116 metres high."}],
    "rejected": [{"role": "assistant", "content": "Nobody has measured such a thing yet."}],
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = {
    **LONG,
    "prompt": [
        {"role": "user", "content": "Is it raining in Oslo now?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "rain, 7 degrees", "tool_call_id": "c1", "name": "weather"},
        {"role": "user", "content": "So do I need a coat?"},
    ],
}


def make_mix(data, rows=(*PAIRS, LONG), **options):
    source = write_rows(data / "garden.jsonl", rows)
    build(BuildConfig(source=source, name="garden", skip_rule=NO_VECTORS, data=data))
    return mix(MixConfig(name="v1", add=("garden",), data=data, **options))


def records(folder, name):
    """The records of a set as mlcroissant gives them, with texts for bytes and without its prefixes."""
    return [plain(record) for record in mlcroissant.Dataset(folder / "croissant.json").records(name)]


def plain(value):
    if isinstance(value, dict):
        return {name.rpartition("/")[2]: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.decode() if isinstance(value, bytes) else value


def read_file(folder, split):
    return pl.read_parquet(folder / f"{split}-*.parquet").to_dicts()


def test_mlcroissant_finds_no_fault_but_that_there_is_no_date(tmp_path, caplog):
    mixed = make_mix(tmp_path)

    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(mixed.path / "croissant.json")

    assert not dataset.metadata.ctx.issues.errors
    assert [warning for warning in dataset.metadata.ctx.issues.warnings if "datePublished" not in warning] == []
    assert "@context" not in caplog.text
    assert dataset.metadata.version == f"1.0.0+{mixed.lock.sha256[:12]}"
    assert f"Version {mixed.lock.sha256}" in dataset.metadata.cite_as


def test_records_are_the_rows_of_the_mix(tmp_path):
    mixed = make_mix(tmp_path, heldout_share=0.3)

    for split in ("train", "test"):
        assert records(mixed.path, split) == read_file(mixed.path, split)
    told = open_mix_folder(mixed.path)
    assert records(mixed.path, "lineage") == told.lineage().collect().to_dicts()
    assert len(records(mixed.path, "test")) == mixed.lock.heldout > 0


def test_a_copied_folder_without_heldout_rows_is_read_where_it_lies(tmp_path):
    folder = make_mix(tmp_path / "", heldout_share=0.0).path
    there = tmp_path / "copied under another name"
    shutil.move(folder, there)

    names = [each.name for each in mlcroissant.Dataset(there / "croissant.json").metadata.record_sets]
    assert names == ["train", "lineage"]
    assert records(there, "train") == read_file(there, "train")


def test_the_messages_of_a_mix_with_calls_of_tools_are_read(tmp_path):
    mixed = make_mix(tmp_path, (*PAIRS, TOOLS), heldout_share=0.0)

    prompts = {row["pair_id"]: row["prompt"] for row in read_file(mixed.path, "train")}
    read = {row["pair_id"]: row["prompt"] for row in records(mixed.path, "train")}
    names = ("role", "content")
    assert read == {pair: [{name: turn[name] for name in names} for turn in turns] for pair, turns in prompts.items()}
    assert any(turn["role"] == "tool" for turns in read.values() for turn in turns)


def test_a_split_of_several_files_is_one_set_of_records(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.mix.write.ROWS_PER_GROUP", 4)
    monkeypatch.setattr("curate.mix.write.BYTES_PER_SHARD", 1)
    mixed = make_mix(tmp_path, heldout_share=0.1)
    assert len(list(mixed.path.glob("train-*.parquet"))) > 1

    rows = open_mix_folder(mixed.path).scan("train").drop("split").collect().to_dicts()

    assert records(mixed.path, "train") == rows


def test_every_data_file_is_named_with_its_digest(tmp_path):
    mixed = make_mix(tmp_path)

    told = json.loads((mixed.path / "croissant.json").read_text(encoding="utf-8"))

    digests = {each["contentUrl"]: each["sha256"] for each in told["distribution"] if "sha256" in each}
    assert digests == {name: mixed.lock.files[name] for name in mixed.lock.data_files()}
    assert mixed.lock.files["croissant.json"]


def test_the_fields_of_responsible_ai_tell_what_the_card_tells(tmp_path):
    rows = [{**row, "chosen": f"{row['chosen']} Write to me{i}@mailbox.net about it."} for i, row in enumerate(PAIRS)]
    mixed = make_mix(tmp_path, [*rows, PAIRS[0] | {"chosen": ""}])

    told = mlcroissant.Dataset(mixed.path / "croissant.json").metadata

    assert told.data_collection == "garden: pairs of garden.jsonl."
    assert told.data_preprocessing_protocol == ["garden: 10 of 11 rows passed screening (dropped: empty 1)"]
    assert "email 10" in str(told.personal_sensitive_information)
    assert any("longer one in 100%" in bias for bias in told.data_biases)
    assert any("is unknown" in limit for limit in told.data_limitations)


@pytest.mark.parametrize(
    ("license", "value"),
    [
        ("Apache-2.0", "https://spdx.org/licenses/Apache-2.0.html"),
        ("unknown", "unknown"),
        ("other", "other"),
        ("LicenseRef-Terms", "LicenseRef-Terms"),
        ("MIT AND LicenseRef-Terms", "MIT AND LicenseRef-Terms"),
    ],
)
def test_a_license_with_an_spdx_id_is_named_by_its_page(license, value):
    assert license_value(license) == value
