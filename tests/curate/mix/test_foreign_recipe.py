import json
import logging

import pytest
from datasets import load_dataset
from trl.scripts.utils import DatasetConfig, DatasetMixtureConfig, get_dataset

from curate.config import BuildConfig, MixConfig
from curate.mix.foreign_recipe import Entry, is_source, read_foreign
from curate.mix.mix import mix
from curate.mix.recipe import Source
from curate.pipeline.build import build
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.ids import short_id

SKIPPED = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the builds 'large' (90 pairs), 'small' (20 pairs) and 'again', which has the file of large."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("large", 90), ("small", 20)):
        path = folder / f"{name}.jsonl"
        rows = [
            {"prompt": f"What is {short_id([name, i])}?", "chosen": f"It is {short_id(i)}.", "rejected": f"No, {i}."}
            for i in range(count)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        build(BuildConfig(source=str(path), name=name, data=folder, skip_rule=SKIPPED))
    return folder


def read(data, text):
    path = data / "mixture.yaml"
    path.write_text(text)
    return read_foreign(path, Workspace(data))


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (3, 1), (0.9, 0.1), (0.1, 0.7)])
def test_fractions_of_trl_give_the_counts_that_trl_takes(data, fractions):
    files = [str(data / f"{name}.jsonl") for name in ("large", "small")]
    mixture = DatasetMixtureConfig(
        datasets=[
            DatasetConfig(path="json", data_files=file, fraction=fraction)
            for file, fraction in zip(files, fractions, strict=True)
        ]
    )
    theirs = get_dataset(mixture)["train"]
    large = set(load_dataset("json", data_files=files[0], split="train")["prompt"])

    text = "".join(
        f"- path: json\n  data_files: {file}\n  fraction: {fraction}\n"
        for file, fraction in zip(files, fractions, strict=True)
    )
    ours = read(data, f"model_name_or_path: x\ndatasets:\n{text}")

    taken = sum(prompt in large for prompt in theirs["prompt"])
    assert ours.sources == (Source("large", 1.0, taken), Source("small", 1.0, len(theirs) - taken))


def test_without_fractions_all_of_each_is_taken(data):
    ours = read(data, "datasets:\n- path: large\n- path: someone/small\ntest_split_size: 0.2\n")

    # a build of the name of the dataset stands for it
    assert ours.sources == (Source("large", 1.0), Source("small", 1.0))
    assert ours.heldout_share == 0.2


def test_the_mixers_of_the_handbook_are_shares(data, caplog):
    caplog.set_level(logging.INFO)
    mixer = read(
        data, "dataset_mixer:\n  someone/large: 0.5\n  small: 1.0\ndataset_splits: [train_prefs, test_prefs]\n"
    )
    mixture = "dataset_mixture:\n  datasets:\n  - {id: large, weight: 0.5}\n  - {id: small}\n  test_split_size: 0.1\n"

    assert mixer.sources == read(data, mixture).sources == (Source("large", 0.5), Source("small", 1.0))
    assert mixer.heldout_share is None
    assert "here a random share of what screening kept is taken" in caplog.text


def test_a_foreign_recipe_is_published_with_the_flags_beside_it(data, caplog):
    caplog.set_level(logging.INFO)
    path = data / "trl.yaml"
    path.write_text("datasets:\n- {path: large, fraction: 0.5}\n- {path: small, fraction: 0.5}\ntest_split_size: 0.3\n")

    with pytest.raises(UserError, match=r"--heldout-share is another one than test_split_size in .*trl\.yaml"):
        mix(MixConfig(name="v1", recipe=path, heldout_share=0.2, data=data))
    mixed = mix(MixConfig(name="v1", recipe=path, seed=7, data=data))

    assert mixed.summary()["sources"] == {"large": 20, "small": 20}
    assert (mixed.recipe.seed, mixed.recipe.heldout_share) == (7, 0.3)
    assert "fraction is a share of the final mixture, and TRL takes the first rows" in caplog.text
    assert "large 20 of 90, small 20 of 20" in caplog.text
    # the recipe of the folder stands without the YAML file
    path.unlink()
    assert mix(MixConfig(name="v1", data=data)).lock == mixed.lock


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has neither datasets"),
        ("- a", "has neither datasets"),
        ("datasets: [", "is not YAML"),
        ("datasets: 3", "is not a mixture"),
        ("datasets:\n- name: x", "a dataset has no 'path'"),
        ("datasets:\n- path: 3", "3 is not a text"),
        ("datasets:\n- {path: large, fraction: 1}\n- {path: small}", "fraction is a number above 0 of all datasets"),
        ("datasets:\n- {path: large, fraction: 0}", "fraction is a number above 0 of all datasets"),
        ("datasets:\n- {path: large, fraction: x}", "'x' is not a number"),
        ("datasets:\n- {path: large}\ntest_split_size: 100", "is a number of rows; here it is a share"),
        (
            "datasets:\n- {path: owner/prefs, name: en, split: train_prefs}",
            "no build of 'owner/prefs' .*; make it with: curate build --source owner/prefs/en:train_prefs",
        ),
        ("dataset_mixer: {owner/prefs: 1.0}", "make it with: curate build --source owner/prefs$"),
        ("dataset_mixer: [large]", "is not a mixture"),
        ("dataset_mixer: {large: 1.0}\ndataset_configs: [a, b]", "is not a mixture"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_what_is_no_mixture_or_has_no_build_is_refused_with_the_file(data, text, problem):
    with pytest.raises(UserError, match=problem) as refused:
        read(data, text)
    assert "mixture.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_two_builds_of_one_dataset_are_not_chosen_between(data, tmp_path):
    for name in ("one", "two"):
        build(BuildConfig(source=str(data / "small.jsonl"), name=name, data=tmp_path, skip_rule=SKIPPED))

    with pytest.raises(UserError, match="builds one, two are all made of"):
        read(tmp_path, f"datasets:\n- {{path: json, data_files: {data / 'small.jsonl'}}}")


@pytest.mark.parametrize(
    ("source", "entry", "is_same"),
    [
        ("owner/prefs", Entry("owner/prefs", None, (), None), True),
        ("owner/prefs@abc:train", Entry("owner/prefs", None, ("train",), None), True),
        ("owner/prefs:test", Entry("owner/prefs", None, ("train",), None), False),
        ("owner/prefs/en:train", Entry("owner/prefs", "en", (), None), True),
        ("owner/prefs/en:train", Entry("owner/prefs", "de", (), None), False),
        ("owner/other", Entry("owner/prefs", None, (), None), False),
    ],
)
def test_a_build_is_of_a_dataset_by_name_subset_and_split(source, entry, is_same):
    assert is_source(source, entry) == is_same
