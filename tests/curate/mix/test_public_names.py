import pytest

from curate.mix.public_names import public_model, public_source


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("smollm2", "smollm2"),
        ("openai:gpt-4o:2024", "openai:gpt-4o:2024"),
        ("hf:owner/model", "hf:owner/model"),
        ("hf:/home/ann/models/secret-7b", "hf:secret-7b"),
        ("hf:/home/ann/models/secret-7b/", "hf:secret-7b"),
        ("judge:hf:/home/ann/m", "judge:hf:m"),
        ("http://10.0.0.7:8000/v1#owner/model", "owner/model"),
        ("judge-pairs:https://ann.example/v1#m", "judge-pairs:m"),
        ("classify:http://10.0.0.7:8000#owner/model", "classify:owner/model"),
    ],
)
def test_a_model_is_named_without_folder_and_address(name, shown):
    assert public_model(name) == shown


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("samples", "samples"),
        ("owner/name/subset@main:train", "owner/name/subset@main:train"),
        ("/home/ann/pairs.jsonl.gz", "pairs.jsonl.gz"),
        ("private/pairs.csv", "pairs.csv"),
        ("../up/saved:train", "saved:train"),
        (r"C:\Users\ann\pairs.csv", "pairs.csv"),
    ],
)
def test_a_source_on_this_machine_is_named_by_its_file(spec, shown):
    assert public_source(spec) == shown
