import json
from dataclasses import replace

import pytest
from four_prompts import PROMPTS, written
from garden import PAIRS, write_rows
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from judging import answer, ask_about
from markdown_it import MarkdownIt
from mixes import folder_bytes
from scripted import ScriptedEndpoint

from curate.config import BuildConfig, MixConfig, ScreenConfig
from curate.mix.card.card import write_card
from curate.mix.card.header import license_fields, size_category
from curate.mix.card.markdown import code, fenced, plain, table
from curate.mix.licenses import mix_license
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.review.apply import apply_verdicts
from curate.store.mixes import open_mix_folder
from schemas.visible import visible_line

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
MARKDOWN = MarkdownIt("commonmark").enable("table")


def make_build(data, name="garden", rows=PAIRS, **options):
    source = write_rows(data / f"{name}.jsonl", rows)
    return build(BuildConfig(source=source, name=name, skip_rule=NO_VECTORS, data=data, **options))


def make_mix(data, *add, **options):
    return mix(MixConfig(name="v1", add=add or ("garden",), data=data, **options))


def read_card(mixed):
    return (mixed.path / "README.md").read_text(encoding="utf-8")


def section(card, title):
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def cells(text):
    """The cells of the tables of a text, as they are shown."""
    return [token.content for token in MARKDOWN.parse(text) if token.type == "inline" and token.level == 4]


def test_a_mix_without_scorer_review_and_heldout_rows_says_so(tmp_path):
    rows = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in PAIRS]
    make_build(tmp_path, rows=rows)

    card = read_card(make_mix(tmp_path, heldout_share=0.0))

    limits = section(card, "Known limits")
    assert "No person checked the labels" in limits
    assert "No model scored the pairs of `garden` here" in limits
    assert "there is no `test` split" in limits
    assert "The license of 10 pairs is unknown." in limits
    assert "eval_dataset" not in card
    assert "Review by people" not in card
    assert "noise" not in section(card, "Sources")


def test_the_hub_reads_the_header_of_a_card(tmp_path):
    make_build(tmp_path)

    card = DatasetCard(read_card(make_mix(tmp_path, heldout_share=0.2)))

    told = card.data.to_dict()
    files = [{"split": "train", "path": "train-*.parquet"}, {"split": "test", "path": "test-*.parquet"}]
    assert told["configs"] == [{"config_name": "default", "data_files": files}]
    assert told["license"] == "unknown"
    assert told["size_categories"] == ["n<1K"]
    assert told["pretty_name"] == "v1"
    assert "synthetic" not in told["tags"]
    assert card.text.lstrip().startswith("# v1\n")


def test_a_card_follows_from_recipe_and_lock_alone(tmp_path):
    make_build(tmp_path)
    first = make_mix(tmp_path)
    before = folder_bytes(first.path)
    there = tmp_path / "elsewhere"
    first.path.rename(there)

    lock = open_mix_folder(there).lock

    assert write_card(first.recipe, lock).encode() == before["README.md"]
    there.rename(first.path)
    rescreen(ScreenConfig(name="garden", data=tmp_path, **last_thresholds(tmp_path, "garden") | {"min_margin": 5.0}))
    for name in ("README.md", "croissant.json", "train-00000-of-00001.parquet"):
        (first.path / name).unlink()
    make_mix(tmp_path)
    assert folder_bytes(first.path) == before


def test_rows_of_a_source_add_up_from_what_came_in_to_what_was_kept(tmp_path):
    bad = [{"prompt": "What is it?", "chosen": None, "rejected": "No."}, PAIRS[0]]
    make_build(tmp_path, rows=[*PAIRS, *bad], min_margin=3.0)

    mixed = make_mix(tmp_path)

    told = mixed.lock.facts["sources"]["garden"]
    # margins of 1 and 2 are under 3
    assert told["dropped"] == {"bad_response": 1, "duplicate_pair": 1, "low_margin": 2}
    assert told["rows_in"] - sum(told["dropped"].values()) == told["kept"] == mixed.lock.rows == 8
    shown = cells(section(read_card(mixed), "What was dropped"))
    assert shown[shown.index("dropped: low margin") + 1] == "2"
    assert shown[shown.index("in the mix") + 1] == "8"


def test_pairs_that_the_recipe_leaves_out_are_told_by_reason(tmp_path):
    make_build(tmp_path)
    make_build(tmp_path, "again", rows=PAIRS[:4])

    shown = cells(section(read_card(make_mix(tmp_path, "garden:0.5", "again")), "What was dropped"))

    rows = {shown[i]: (int(shown[i + 1]), int(shown[i + 2])) for i in range(3, len(shown), 3)}
    assert rows["left out: share"] == (5, 0)
    assert rows["left out: duplicate between sources"][0] == 0 < rows["left out: duplicate between sources"][1]
    left_out = [sum(row[i] for name, row in rows.items() if name.startswith("left out")) for i in (0, 1)]
    assert [rows["passed screening"][i] - left_out[i] for i in (0, 1)] == list(rows["in the mix"])


def test_thresholds_that_differ_between_sources_name_them(tmp_path):
    make_build(tmp_path)
    make_build(tmp_path, "strict", rows=PAIRS[4:], min_margin=5.0)

    shown = cells(section(read_card(make_mix(tmp_path, "garden", "strict")), "Screening"))

    assert shown[shown.index("`min_margin`") + 1] == "`0.0` (`garden`); `5.0` (`strict`)"
    assert shown[shown.index("`min_tokens`") + 1] == "`3`"


def test_verdicts_of_reviewers_are_told_with_those_on_a_random_draw(tmp_path):
    make_build(tmp_path)
    asked = ask_about(tmp_path, "garden")
    answer(tmp_path, "garden", asked, {0: "both_bad", 1: "rejected", 2: "chosen"})
    answer(tmp_path, "garden", asked, {2: "equal"}, reviewer="r2")
    apply_verdicts(tmp_path, "garden")

    mixed = make_mix(tmp_path)

    review = section(read_card(mixed), "Review by people")
    said = "3 pairs by 2 reviewers: swap 1, reject 1, no majority 1"
    assert f"`garden`: {said}; on those drawn at random: swap 1, reject 1, no majority 1" in review
    # the rejected pair is not in the mix
    assert mixed.lock.facts["judged"] == 2
    assert "People judged 2 of the 9 pairs" in read_card(mixed)
    assert DatasetCard(read_card(mixed)).data.tags[-1] == "human-feedback"


def test_the_license_of_the_whole_stands_beside_the_terms_of_the_rows(tmp_path):
    make_build(tmp_path, "mit", PAIRS[:4], license="MIT")
    make_build(tmp_path, "shared", PAIRS[4:], license="CC-BY-SA-4.0")

    card = read_card(make_mix(tmp_path, "mit", "shared"))

    assert DatasetCard(card).data.license == "cc-by-sa-4.0"
    licenses = section(card, "Licenses")
    assert "The whole mix may be used under `CC-BY-SA-4.0`." in licenses
    assert cells(licenses)[2:] == ["`CC-BY-SA-4.0`", "6", "`MIT`", "4"]
    assert "unknown" not in section(card, "Known limits")


def test_personal_data_and_longer_responses_are_known_limits(tmp_path):
    rows = [{**row, "chosen": f"{row['chosen']} Write to me{i}@mailbox.net about it."} for i, row in enumerate(PAIRS)]
    make_build(tmp_path, rows=rows)

    limits = section(read_card(make_mix(tmp_path)), "Known limits")

    assert "personal data or secrets (pairs: email 10)" in limits
    assert "The chosen response is the longer one in 100% of the pairs" in limits


def test_a_card_names_no_folder_and_no_address_of_this_machine(tmp_path):
    against = write_rows(tmp_path / "our eval.jsonl", [{"prompt": "Where does the sun set in winter, and why?"}])
    make_build(tmp_path, decontaminate=(against,))

    mixed = make_mix(tmp_path)

    for name in ("README.md", "croissant.json", "lock.json"):
        assert str(tmp_path) not in (mixed.path / name).read_text(encoding="utf-8")
    card = read_card(mixed)
    assert "- `garden`: ready pairs from `garden.jsonl` (digest" in section(card, "Sources")
    assert "`our eval.jsonl` (sha256" in section(card, "Evaluation prompts")


def test_a_generator_is_named_without_its_address_and_its_pairs_are_synthetic(tmp_path):
    server = ScriptedEndpoint(lambda body: (200, written(body)))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    generator = f"{server.url}#tiny"
    asked = BuildConfig(
        source="gpt", prompts=str(prompts), flaws="none", generator=generator, skip_rule=NO_VECTORS, data=tmp_path
    )
    try:
        build(asked)
    finally:
        server.close()

    mixed = make_mix(tmp_path, "gpt")

    card = read_card(mixed)
    assert mixed.lock.facts["sources"]["gpt"]["generator"]["model"] == "tiny"
    assert "prompts from `prompts.txt` (digest" in section(card, "Sources")
    assert "responses by `tiny` (digest" in section(card, "Sources")
    assert "127.0.0.1" not in card + (mixed.path / "croissant.json").read_text(encoding="utf-8")
    assert "All were made for it, with responses of models." in card
    assert "synthetic" in DatasetCard(card).data.tags


def test_names_that_hold_markup_stay_text(tmp_path):
    make_build(tmp_path)
    mixed = make_mix(tmp_path)
    name = "a|b`c``\n# head\n<script>x</script>"
    told = mixed.lock.facts["sources"]["garden"]
    model = {"model": name, "digest": "0" * 64}
    facts = {
        **mixed.lock.facts,
        "sources": {"garden": {**told, "from": name, "generator": model, "scorer": model}},
        "license": mix_license({name: 10}).summary() | {"conflicts": [name]},
    }
    lock = replace(mixed.lock, facts=facts, licenses={name: 10})

    card = write_card(mixed.recipe, lock)

    kinds = [token.type for token in MARKDOWN.parse(card.partition("---\n\n")[2])]
    plain_kinds = [token.type for token in MARKDOWN.parse(read_card(mixed).partition("---\n\n")[2])]
    assert kinds.count("td_open") == plain_kinds.count("td_open")
    assert kinds.count("heading_open") == plain_kinds.count("heading_open")
    assert "html_block" not in kinds
    assert DatasetCard(card).data.license == "other"


@given(st.text(min_size=1))
def test_any_text_is_shown_as_it_is(text):
    shown = visible_line(text, 200)
    (inline,) = [token for token in MARKDOWN.parse(f"x {plain(text)} x") if token.type == "inline"]
    assert "".join(child.content for child in inline.children) == f"x {shown} x"
    assert {child.type for child in inline.children} <= {"text", "text_special"}


@given(st.text())
def test_any_text_is_one_code_span_of_one_cell(text):
    tokens = MARKDOWN.parse(table(("one", "two"), [(code(text), "x")]))

    row = [token for token in tokens if token.type == "inline"][2:]
    assert len(row) == 2
    assert [child.type for child in row[0].children] == ["code_inline"]
    assert row[0].children[0].content.strip() == visible_line(text, 200).strip()


@given(st.text(alphabet="`~a \n"))
def test_any_text_is_one_block_of_code(text):
    (token,) = MARKDOWN.parse(fenced("toml", text))

    assert (token.type, token.content.rstrip()) == ("fence", text.rstrip())


@pytest.mark.parametrize(
    ("license", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("ODC-By-1.0", {"license": "odc-by"}),
        ("unknown", {"license": "unknown"}),
        ("other", {"license": "other", "license_name": json.dumps("several-licenses")}),
        ("LicenseRef-Llama-3: terms", {"license": "other", "license_name": json.dumps("licenseref-llama-3-terms")}),
        ("0BSD", {"license": "other", "license_name": json.dumps("0bsd")}),
    ],
)
def test_a_license_is_called_as_the_hub_calls_it(license, fields):
    assert license_fields(license) == fields


@pytest.mark.parametrize(
    ("rows", "size"), [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (1_000_000, "1M<n<10M"), (10**7, "10M<n<100M")]
)
def test_size_categories_are_those_of_the_hub(rows, size):
    assert size_category(rows) == size
