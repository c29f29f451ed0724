"""Licenses on the whole way: from the source and the generator to pairs, reports and the mix."""

import json

import pytest
from scripted import completion

from curate.cli.main import main
from curate.config import BuildConfig, ExplainConfig, MixConfig, ShowConfig
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.report.explain import explain
from curate.report.show import show
from schemas.errors import UserError

FRUIT = ("plum", "pear", "fig", "quince")


def write_both(body):
    """A server that writes a chosen and a rejected response about what it is asked."""
    word = body["messages"][-1]["content"].rpartition(" ")[2]
    return 200, completion(
        json.dumps(
            {
                "chosen": f"It is the fruit of a tree, and people in many lands eat a {word} with pleasure.",
                "rejected": f"The {word} is a tool of iron that smiths use for bending hot horseshoes.",
            }
        )
    )


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Tell me about the {word}"} for word in FRUIT]
    rows[0]["license"] = "cc-by-4.0"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def pair_licenses(built):
    return sorted(built.pairs.scan().collect()["license"])


def test_written_pairs_have_the_license_of_their_prompt_and_the_terms_of_the_generator(endpoint, prompts, tmp_path):
    server, data = endpoint(write_both), tmp_path / "data"
    data.mkdir()
    cfg = {"source": "gpt", "prompts": prompts, "generator": f"{server.url}#m", "flaws": "none", "data": data}
    cfg |= {"max_cosine": 1.0, "max_jaccard": 1.0}

    unknown = build(BuildConfig(**cfg))
    (data / "licenses.toml").write_text(f'[generators."{server.url}#*"]\nlicense = "LicenseRef-Acme"\n')
    told = build(BuildConfig(**cfg))
    given = build(BuildConfig(**cfg, license="mit"))

    assert pair_licenses(unknown) == ["unknown"] * 4
    assert pair_licenses(told) == ["CC-BY-4.0 AND LicenseRef-Acme", *["unknown"] * 3]
    assert pair_licenses(given) == ["MIT AND LicenseRef-Acme"] * 4
    # other licenses are other tables, made of the recorded answers
    assert (unknown.calls, told.calls, given.calls) == (4, 0, 0)
    assert len({built.pairs.identity for built in (unknown, told, given)}) == 3


def test_sampled_pairs_have_the_license_of_the_embedded_model_and_of_the_prompts(tmp_path):
    settings = {"num_prompts": 3, "max_tokens": 8, "min_tokens": 1, "skip_rule": ("truncated",)}
    built = build(BuildConfig(source="sft", license="MIT", data=tmp_path, **settings))

    assert built.pairs.rows
    assert set(pair_licenses(built)) == {"MIT AND Apache-2.0"}


def test_license_that_is_none_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match=r"--license 'Apache2' is no SPDX license \(did you mean Apache-2.0\?\)"):
        build(BuildConfig(source=str(tmp_path / "absent.jsonl"), license="Apache2", data=tmp_path))


@pytest.fixture
def fruit(tmp_path):
    """A build of three pairs: two of licenses that no mix can meet together, and one of an unknown one."""
    rows = [
        {
            "prompt": f"What is a {word}?",
            "chosen": f"The {word} is a fruit of a tree, and many people like it.",
            "rejected": f"A {word} is an old tool of iron for the work of smiths.",
            "license": license,
        }
        for word, license in zip(FRUIT, ("cc-by-sa-4.0", "cc-by-nc-4.0", None), strict=False)
    ]
    path = tmp_path / "fruit.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return build(BuildConfig(source=str(path), max_cosine=1.0, max_jaccard=1.0, data=tmp_path / "data"))


def test_reports_say_the_license_of_a_pair(fruit, tmp_path):
    pair_id, license = fruit.pairs.scan().select("pair_id", "license").collect().row(0)

    shown = show(ShowConfig(name="fruit", data=tmp_path / "data"))
    traced = explain(ExplainConfig(pair_id=pair_id, data=tmp_path / "data"))

    assert any(pair_id in line and f"license {license}" in line for line in shown.lines())
    assert shown.summary()["pairs"][0]["license"] == license
    assert f"license {license}" in traced.lines() and traced.summary()["license"] == license


def test_mix_says_its_license_its_conflicts_and_what_is_unknown(fruit, tmp_path, capsys):
    data = tmp_path / "data"

    assert main(["mix", "v1", "--add", "fruit", "--data", str(data)]) == 0
    told = capsys.readouterr().out
    assert main(["mix", "v1", "--data", str(data), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)

    assert "license other" in told and "1 row of unknown license" in told and "--license" in told
    assert "license conflict: CC-BY-SA-4.0" in told and "CC-BY-NC-4.0" in told
    assert summary["license"]["license"] == "other" and summary["license"]["unknown"] == 1
    assert len(summary["license"]["conflicts"]) == 1


def test_mix_of_the_samples_is_under_their_license_and_stays_so(tmp_path):
    first = mix(MixConfig(name="v1", add=("samples",), data=tmp_path))
    (tmp_path / "licenses.toml").write_text("[licenses.'Apache-2.0']\nnote = 'Something else.'\n")
    (first.path / "README.md").unlink()

    again = mix(MixConfig(name="v1", add=("samples",), data=tmp_path))

    assert first.lock.licenses == {"Apache-2.0": first.lock.rows}
    assert first.lock.facts["license"]["license"] == "Apache-2.0"
    assert first.lock.facts["license"]["unknown"] == 0
    # what a mix says of itself was settled when it was published
    assert again.lock.facts == first.lock.facts and again.lock.files == first.lock.files
