"""A folder that `save_to_disk` wrote gives the rows of one of its splits, or one sentence says what there is."""

import json

import datasets
import pytest

from curate.sources.rows import first_rows, raw_rows, rows_config
from schemas.errors import UserError

ROWS = [{"prompt": f"Question {i}", "turns": [{"role": "user", "content": str(i)}]} for i in range(30)]


@pytest.fixture(params=["saved", "my[data]*"])
def folder(request, tmp_path):
    return tmp_path / request.param


def save(folder, **splits):
    datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(folder)


def read(spec, seed=None):
    return list(raw_rows(rows_config(str(spec), None, seed)))


def refused(spec):
    with pytest.raises(UserError) as error:
        rows_config(str(spec), None, 30)
    return str(error.value).replace(str(spec).rpartition(":")[0] or str(spec), "FOLDER")


def test_a_dataset_without_rows_is_named(folder):
    datasets.Dataset.from_dict({"prompt": []}).save_to_disk(folder)

    with pytest.raises(UserError, match="has no rows"):
        read(folder)


def test_a_dataset_is_read_in_the_order_of_the_library(folder):
    datasets.Dataset.from_list(ROWS).save_to_disk(folder, num_shards=4)

    assert read(folder) == ROWS == read(f"{folder}:train")
    assert read(folder, 30) == datasets.load_from_disk(folder).shuffle(seed=30).to_list()
    assert first_rows(rows_config(str(folder), None, 30), 20) == ROWS[:20]


def test_rows_that_were_selected_before_saving_are_the_rows(folder):
    datasets.Dataset.from_list(ROWS).shuffle(seed=1).select(range(5)).save_to_disk(folder)

    assert read(folder) == datasets.Dataset.from_list(ROWS).shuffle(seed=1).select(range(5)).to_list()


def test_train_is_the_split_where_none_is_named(folder):
    save(folder, test=ROWS[:2], train=ROWS)

    cfg = rows_config(str(folder), None, 30)

    assert cfg.path == f"{folder}:train"
    assert read(folder) == ROWS
    assert read(f"{folder}:test") == ROWS[:2]
    assert cfg.sha256 != rows_config(f"{folder}:test", None, 30).sha256


def test_the_only_split_is_read_where_none_is_named(folder):
    save(folder, test=ROWS)

    assert rows_config(str(folder), None, 30).path == f"{folder}:test"


def test_splits_are_listed_where_a_wrong_one_is_named_or_none_is_train(folder):
    save(folder, dev=ROWS[:1], test=ROWS)

    assert refused(f"{folder}:train") == "FOLDER has no split 'train'; name one of dev, test, as in FOLDER:dev"
    with pytest.raises(UserError, match="has several splits, none of them train; name one of dev, test"):
        rows_config(str(folder), None, 30)


def test_a_dataset_without_splits_has_no_other(folder):
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)

    assert refused(f"{folder}:test") == "FOLDER has no split 'test'; name one of train, as in FOLDER:train"


def test_the_digest_follows_the_rows(folder):
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    first = rows_config(str(folder), None, 30)
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    same = rows_config(str(folder), None, 30)
    datasets.Dataset.from_list(ROWS[1:]).save_to_disk(folder)

    assert first == same != rows_config(str(folder), None, 30)


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"_split": null, "_data_files": 5}', '{"_split": "a", "_data_files": [{"filename": 5}]}']
)
def test_a_folder_that_does_not_tell_its_files_is_refused(folder, state):
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    (folder / "state.json").write_text(state)

    assert "is not what save_to_disk writes" in refused(folder)


def test_a_file_that_is_missing_is_named(folder):
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    name = json.loads((folder / "state.json").read_text())["_data_files"][0]["filename"]
    (folder / name).unlink()

    assert "No such file" in refused(folder)


def test_images_stay_the_bytes_they_are(folder):
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = [{"image": {"bytes": b"no image", "path": None}, "label": 1}]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(folder)

    assert read(folder) == rows


def test_columns_of_the_json_feature_are_what_they_say(folder):
    rows = [{"chosen": [{"role": "user", "content": "hi", "extra": [1, "a"]}]}, {"chosen": [{"role": "user"}]}]
    features = datasets.Features({"chosen": datasets.List(datasets.Json())})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(folder)

    assert read(folder) == rows
