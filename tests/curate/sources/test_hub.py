"""A dataset is found by its name, subset, revision and split, or one sentence says what there is."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.sources.rows import first_rows, raw_rows, rows_config
from schemas.errors import UserError

LINES = [json.dumps({"prompt": f"Question {i}"}) for i in range(50)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Makes files of a dataset folder below the working directory; nothing beyond it can be reached."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)

    def make(files):
        for name, content in files.items():
            path = tmp_path / "owner" / "name" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "owner" / "name"

    return make


@pytest.fixture
def hub_folder(hub):
    return hub({"train.jsonl": "\n".join(LINES), "test.jsonl": "\n".join(LINES[:3])})


def read(spec, num_rows=None, seed=30):
    return list(raw_rows(rows_config(str(spec), num_rows, seed)))


def refused(spec):
    with pytest.raises(UserError) as error:
        rows_config(spec, None, 30)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_hub_dataset_is_read_from_its_train_split(hub_folder):
    cfg = rows_config("owner/name", 24, 30)

    assert cfg.path == "owner/name:train"
    assert list(raw_rows(cfg)) == read(hub_folder / "train.jsonl", num_rows=24)


def test_hub_dataset_has_one_digest_a_split(hub_folder):
    train, test = rows_config("owner/name", None, 30), rows_config("owner/name:test", None, 30)

    assert len(list(raw_rows(test))) == 3
    assert train.sha256 != test.sha256
    assert rows_config("owner/name:train", None, 30) == train


def test_unknown_split_is_named_with_the_known_ones(hub_folder):
    with pytest.raises(
        UserError, match=r"owner/name has no split 'dev'; name one of train, test, as in owner/name:train"
    ):
        rows_config("owner/name:dev", None, 30)


def test_hub_dataset_that_cannot_be_reached_is_the_users_to_solve(hub_folder):
    with pytest.raises(
        UserError, match=r"no file owner/absent, and no dataset owner/absent could be loaded: .+"
    ) as error:
        rows_config("owner/absent", None, 30)

    assert "\n" not in str(error.value)


def test_hub_error_shows_no_token(hub_folder):
    with pytest.raises(UserError) as error:
        rows_config("owner/name:hf_abcDEF123", None, 30)

    assert "has no split 'hf_***'" in str(error.value)


def test_the_first_rows_come_as_they_lie(hub_folder):
    assert first_rows(rows_config("owner/name", 2, 30), 4) == [json.loads(line) for line in LINES[:4]]


def test_the_only_split_is_read_where_none_is_named(hub):
    hub({"test.jsonl": LINES[0]})

    assert rows_config("owner/name", None, 30).path == "owner/name:test"
    assert read("owner/name") == [json.loads(LINES[0])]


def test_several_splits_without_train_are_listed(hub):
    hub({"test.jsonl": LINES[0], "validation.jsonl": LINES[1]})

    assert refused("owner/name") == (
        "owner/name has several splits, none of them train; name one of validation, test, as in owner/name:validation"
    )


def test_a_part_of_a_split_is_read(hub_folder):
    assert len(read("owner/name:train[:10]")) == 10
    assert len(read("owner/name:train+test")) == 53


CONFIGS = """---
configs:
- config_name: main
  data_files: main.jsonl
- config_name: socratic
  data_files: socratic.jsonl
---
"""


def test_a_subset_is_a_configuration(hub):
    hub({"README.md": CONFIGS, "main.jsonl": LINES[0], "socratic.jsonl": LINES[1]})

    assert read("owner/name/socratic") == [json.loads(LINES[1])]
    assert rows_config("owner/name/main:train", None, 30).path == "owner/name/main:train"
    assert rows_config("owner/name/main", None, 1).sha256 != rows_config("owner/name/socratic", None, 1).sha256


def test_subsets_are_listed_where_none_or_a_wrong_one_is_named(hub):
    hub({"README.md": CONFIGS, "main.jsonl": LINES[0], "socratic.jsonl": LINES[1]})

    assert refused("owner/name").endswith("it has several subsets; name one of main, socratic as owner/name/SUBSET")
    assert "'man' not found. Available: ['main', 'socratic']" in refused("owner/name/man")


def test_a_subset_is_a_folder_where_no_configuration_is_named_so(hub):
    hub({"helpful-base/train.jsonl": LINES[0], "harmless-base/train.jsonl": LINES[1]})

    assert read("owner/name/helpful-base") == [json.loads(LINES[0])]
    assert read("owner/name/harmless-base:train") == [json.loads(LINES[1])]


def test_a_revision_stands_before_the_split(hub_folder):
    assert rows_config("owner/name@v1.0", None, 30).path == "owner/name@v1.0:train"
    assert len(read("owner/name@refs/convert/parquet:test")) == 3


def test_images_stay_the_bytes_they_are(hub):
    rows = {"prompt": ["hi"], "image": [{"bytes": b"no image", "path": None}]}
    file = io.BytesIO()
    features = {"prompt": {"dtype": "string", "_type": "Value"}, "image": {"_type": "Image"}}
    table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file)
    hub({"train.parquet": file.getvalue()})

    assert read("owner/name") == [{"prompt": "hi", "image": {"bytes": b"no image", "path": None}}]


def test_a_dataset_that_is_a_script_is_refused(hub):
    hub({"name.py": "import datasets"})

    assert "scripts are no longer supported" in refused("owner/name")


def test_files_that_the_library_cannot_read_are_refused_with_the_cause(hub):
    hub({"train.jsonl": "{broken"})

    assert "could be loaded: its files cannot be read (" in refused("owner/name")
