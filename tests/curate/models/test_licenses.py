"""What generators' responses and datasets come under: the user's table, then cards, then the packaged table."""

import json

import pytest

from curate.models.licenses import (
    card_license,
    generator_terms,
    known_terms,
    own_licenses,
    packaged_licenses,
    parse_license,
    read_license,
)
from curate.store.folders import write_folder
from schemas.errors import UserError
from schemas.licenses import spdx


def test_every_license_of_the_packaged_table_is_one_and_is_described_by_sources():
    table = packaged_licenses()
    named = [*table.terms, *table.datasets.values(), *table.generators.values(), *table.hub.values()]
    named += [under for terms in table.terms.values() for under in terms.under]

    assert [license for license in named if license != "unknown" and spdx(license) != license] == []
    assert all(terms.link.startswith("https://") for terms in table.terms.values())
    assert {under for terms in table.terms.values() for under in terms.under} <= set(table.terms)


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("odc-by", "ODC-By-1.0"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("llama3.1", "LicenseRef-llama3.1"),
        ("Unknown", "unknown"),
        ("cc", "unknown"),
        ("mit AND LicenseRef-OpenAI-Terms", "MIT AND LicenseRef-OpenAI-Terms"),
        ("free for all", None),
    ],
)
def test_licenses_are_read_as_spdx_or_as_the_hub_names_them(text, license):
    assert read_license(text) == license


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Apache2", "did you mean Apache-2.0?"),
        ("cc-by-4", "did you mean CC-BY-4.0?"),
        ("?", "such as MIT"),
    ],
)
def test_what_is_no_license_is_refused_with_the_nearest(text, hint):
    with pytest.raises(UserError) as error:
        parse_license(text)

    assert "--license" in str(error.value) and hint in str(error.value)


@pytest.mark.parametrize(
    ("head", "license"),
    [
        ("license: mit", "MIT"),
        ("license: [mit, cc-by-4.0]", "MIT AND CC-BY-4.0"),
        ("license:\n- mit\n- nobody-knows", "unknown"),
        ("license: other\nlicense_name: Acme_Data Terms", "LicenseRef-Acme-Data-Terms"),
        ("license: other\nlicense_name: apache-2.0", "Apache-2.0"),
        ("license: other", "unknown"),
        ("license: 7", "unknown"),
        ("license:", None),
        ("tags: [a]", None),
        ("license: [", None),
        ("- a list", None),
    ],
)
def test_license_of_a_card_is_in_its_yaml(head, license):
    assert card_license(f"---\n{head}\n---\n# A card\nlicense: gpl-3.0\n") == license
    assert card_license(f"---\r\n{head}\n---\r\n".replace("\n", "\r\n").replace("\r\r", "\r")) == license


def test_card_without_yaml_has_no_license():
    assert card_license("# A card\n\nlicense: mit\n") is None
    assert card_license("") is None


@pytest.mark.parametrize(
    ("name", "price_name", "terms"),
    [
        ("smollm2", None, "Apache-2.0"),
        ("vllm:smollm2", None, "Apache-2.0"),
        ("openai:gpt-4o-mini", "openai:gpt-4o-mini", "LicenseRef-OpenAI-Terms"),
        # OPENAI_BASE_URL points elsewhere: who answers there has terms of its own
        ("openai:gpt-4o-mini", "http://127.0.0.1:1/v1#gpt-4o-mini", "unknown"),
        ("https://api.openai.com/v1#gpt-5", "https://api.openai.com/v1#gpt-5", "LicenseRef-OpenAI-Terms"),
        ("http://h:1/v1#Qwen/Qwen2.5-0.5B-Instruct", "http://h:1/v1#Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0"),
        ("hf:meta-llama/Llama-3.1-8B", None, "LicenseRef-llama3.1"),
        ("hf:nobody/knows", None, "unknown"),
    ],
)
def test_terms_of_a_generator(name, price_name, terms, tmp_path):
    assert generator_terms(name, price_name, tmp_path) == terms


def test_card_of_a_model_folder_says_its_terms_and_the_users_table_says_otherwise(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n")

    assert generator_terms(f"hf:{folder}", None, tmp_path) == "LicenseRef-gemma"

    (tmp_path / "licenses.toml").write_text(f"[generators.{json.dumps(str(folder) + '*')}]\nlicense = 'mit'\n")

    assert generator_terms(f"hf:{folder}", None, tmp_path) == "MIT"


def test_users_table_comes_before_the_packaged_one(tmp_path):
    (tmp_path / "licenses.toml").write_text(
        '[generators."openai:*"]\nlicense = "LicenseRef-Our-Contract"\n'
        '[licenses.LicenseRef-Our-Contract]\nnote = "As agreed."\n'
        '[licenses.MIT]\nunder = ["ISC"]\n'
    )

    assert generator_terms("openai:gpt-5", "openai:gpt-5", tmp_path) == "LicenseRef-Our-Contract"
    terms = known_terms(tmp_path)
    assert terms["LicenseRef-Our-Contract"].note == "As agreed."
    assert terms["MIT"].under == ("ISC",) and terms["Apache-2.0"] == packaged_licenses().terms["Apache-2.0"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[model.x]\nlicense = 'MIT'", "'model'"),
        ("[datasets.x]\nlicense = 'my own'", "x: 'my own'"),
        ("[datasets.x]\nlicence = 'MIT'", "datasets 'x'"),
        ("[datasets.x]\nlicense = 'MIT'\nprice = 1", "'price'"),
        ("[licenses.MIT]\nunder = 'ISC'", "`under`"),
        ("[licenses.MIT]\nis_noncommercial = 1", "`is_noncommercial`"),
        ("[licenses.MIT]\nunder = [1]", "`under`"),
        ("[hub]\nmine = 'MIT'", "'hub'"),
        ("datasets = 3", "datasets"),
        ("[licenses", "is not TOML"),
    ],
)
def test_wrong_table_of_the_user_is_refused_by_name(content, named, tmp_path):
    (tmp_path / "licenses.toml").write_text(content)

    with pytest.raises(UserError) as error:
        own_licenses(tmp_path)

    assert named in str(error.value) and "licenses.toml" in str(error.value)


def test_run_has_the_terms_of_its_base_model(tmp_path):
    folder = tmp_path / "runs" / "sft-1"
    (folder / "adapter").mkdir(parents=True)
    manifest = {"kind": "sft", "base": "hf:meta-llama/Llama-3.1-8B", "finished_at": "2026-11-01T00:00:00Z"}
    write_folder(folder / "manifest.json", "sft-1", manifest, [])

    assert generator_terms("sft-1", None, tmp_path) == "LicenseRef-llama3.1"
    assert generator_terms("vllm:sft-1", None, tmp_path) == "LicenseRef-llama3.1"
