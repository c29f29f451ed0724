"""What a second screening reads, what it writes, and what stays as it was."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from garden import PAIRS, write_rows
from mixes import folder_bytes
from scripted import completion

from curate.config import BuildConfig, ExplainConfig, MixConfig, ScreenConfig
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.pipeline.stage import BuildState, Models
from curate.pipeline.stages import semantic_config
from curate.report.explain import explain
from curate.store.session import open_session
from curate.store.store import Table
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.stages import StageName

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A data folder with the build 'garden', with vectors of the real encoder."""
    data = tmp_path_factory.mktemp("embedded")
    build(BuildConfig(source=write_rows(data / "garden.jsonl"), name="garden", data=data))
    return data


@pytest.fixture
def plain(tmp_path):
    """A data folder with the build 'garden', without vectors."""
    build(BuildConfig(source=write_rows(tmp_path / "garden.jsonl"), name="garden", skip_rule=NO_VECTORS, data=tmp_path))
    return tmp_path


def record(data: Path) -> dict:
    return json.loads((data / "builds" / "garden.json").read_text())


def table_of(data: Path, stage: StageName) -> Table:
    """The table of a stage of the build 'garden'."""
    return Workspace(data).open_table(stage, record(data)["tables"][stage])


def files(data: Path, *parts: str) -> dict[str, int]:
    """Files under a part of the data folder by the time of their change."""
    return {str(path): path.stat().st_mtime_ns for path in data.joinpath(*parts).rglob("*") if path.is_file()}


def with_thresholds(data: Path, **changes) -> ScreenConfig:
    """What the command makes of flags: the last thresholds, and those that are given."""
    return replace(ScreenConfig(name="garden", data=data, **last_thresholds(data, "garden")), **changes)


def test_another_threshold_reads_all_tables_but_the_last_and_embeds_nothing(embedded):
    before, tables, vectors = record(embedded), files(embedded, "tables"), files(embedded, "vectors")

    found = rescreen(with_thresholds(embedded, min_margin=3.0, max_response_similarity=0.9, max_cosine=0.9))

    after = record(embedded)
    assert {**after["tables"], "screen_pairs": ""} == {**before["tables"], "screen_pairs": ""}
    assert after["tables"]["screen_pairs"] != before["tables"]["screen_pairs"]
    assert files(embedded, "vectors") == vectors
    made = files(embedded, "tables")
    assert {path: made[path] for path in tables} == tables
    assert {Path(path).parts[-3] for path in made.keys() - tables.keys()} == {"screen_pairs"}
    assert found.summary()["dropped"]["low_margin"] == 2


def test_a_cosine_under_the_lists_floor_looks_again_and_still_embeds_nothing(embedded):
    vectors, before = files(embedded, "vectors"), record(embedded)["tables"]

    rescreen(with_thresholds(embedded, max_cosine=0.75))

    after = record(embedded)["tables"]
    assert {stage for stage in before if before[stage] != after[stage]} == {"find_semantic_duplicates", "screen_pairs"}
    assert files(embedded, "vectors") == vectors


@pytest.mark.parametrize(
    ("skip", "gone"),
    [
        (("semantic_duplicate_prompt",), set()),
        (("semantic_duplicate_pair",), set()),
        (("off_topic",), {"measure_topicality"}),
        (("semantic_duplicate_prompt", "semantic_duplicate_pair"), {"find_semantic_duplicates"}),
        (NO_VECTORS, {"find_semantic_duplicates", "measure_topicality", "measure_eval_proximity"}),
    ],
)
def test_leaving_out_a_rule_of_vectors_makes_no_table_but_the_verdicts_and_it_comes_back(embedded, skip, gone):
    rescreen(ScreenConfig(name="garden", data=embedded))
    before, tables, vectors = record(embedded)["tables"], files(embedded, "tables"), files(embedded, "vectors")

    rescreen(with_thresholds(embedded, skip_rule=skip))
    after, made = record(embedded)["tables"], files(embedded, "tables")
    rescreen(with_thresholds(embedded, skip_rule=()))

    assert before.keys() - after.keys() == gone
    assert {stage for stage in after if after[stage] != before[stage]} == {"screen_pairs"}
    assert {Path(path).parts[-3] for path in made.keys() - tables.keys()} <= {"screen_pairs"}
    assert record(embedded)["tables"] == before
    assert files(embedded, "tables") == made
    assert files(embedded, "vectors") == vectors


def test_a_rule_that_is_left_out_drops_nothing_though_its_neighbors_are_listed(tmp_path):
    again = {"prompt": "Why do roses lose leaves in the autumn?", "rejected": "Nobody can say it for sure, I fear."}
    source = write_rows(tmp_path / "garden.jsonl", [*PAIRS, PAIRS[0] | again | {"chosen": PAIRS[1]["chosen"]}])
    built = build(
        BuildConfig(source=source, name="garden", skip_rule=("lexical_duplicate",), max_cosine=0.9, data=tmp_path)
    )

    found = rescreen(with_thresholds(tmp_path, skip_rule=("lexical_duplicate", "semantic_duplicate_prompt")))

    assert built.summary()["dropped"] == {"semantic_duplicate_prompt": 1}
    assert found.summary()["dropped"] == {}


def test_other_evaluation_prompts_are_held_against_the_same_neighbors_and_places(embedded, tmp_path):
    rescreen(ScreenConfig(name="garden", data=embedded))
    before, tables = record(embedded)["tables"], files(embedded, "tables")
    # Its words are other ones than those of the build, and what is asked is the same.
    bench = write_rows(tmp_path / "bench.jsonl", [{"prompt": "In which places do swallows spend their winter?"}])

    found = rescreen(with_thresholds(embedded, decontaminate=(bench,)))

    after, made = record(embedded)["tables"], files(embedded, "tables")
    assert {stage for stage in after if after[stage] != before[stage]} == {
        *("find_contamination", "measure_eval_proximity", "screen_pairs")
    }
    assert {path: made[path] for path in tables} == tables
    assert (found.summary()["dropped"], found.summary()["flags"]) == ({}, {"near_evaluation": 1})
    near = table_of(embedded, StageName.MEASURE_EVAL_PROXIMITY).scan().collect()
    assert near.columns == ["pair_id", "max_cos_eval"]
    assert near.filter(pl.col("max_cos_eval") > 0.9).height == 1


@pytest.mark.parametrize("is_screened", [False, True])
def test_a_file_of_evaluation_prompts_is_found_from_another_folder(tmp_path, monkeypatch, is_screened):
    data, home, away = tmp_path / "data", tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    source = write_rows(home / "garden.jsonl")
    write_rows(home / "bench.jsonl", [{"prompt": PAIRS[3]["prompt"]}])
    # Of the same name in the other folder, and of another content.
    write_rows(away / "bench.jsonl", [{"prompt": "Something other is asked here than anywhere."}])
    against = ("bench.jsonl",)
    monkeypatch.chdir(home)
    given = () if is_screened else against
    build(BuildConfig(source=source, name="garden", skip_rule=NO_VECTORS, decontaminate=given, data=data))
    if is_screened:
        rescreen(with_thresholds(data, decontaminate=against))
    before = record(data)

    monkeypatch.chdir(away)
    found = rescreen(with_thresholds(data))

    assert before["config"]["decontaminate"] == [str(home / "bench.jsonl")]
    assert (record(data)["config"], record(data)["tables"]) == (before["config"], before["tables"])
    assert found.summary()["dropped"] == {"contaminated": 1}


def test_a_file_of_evaluation_prompts_that_is_gone_is_named_with_the_build_and_the_way_on(plain, tmp_path):
    bench, other = (write_rows(tmp_path / name, [{"prompt": "Is it so?"}]) for name in ("bench.jsonl", "other.jsonl"))
    rescreen(with_thresholds(plain, decontaminate=(other, bench)))
    Path(bench).unlink()
    before = record(plain), files(plain, "tables")

    with pytest.raises(UserError) as refused:
        rescreen(with_thresholds(plain, min_margin=2.0))

    sentence = str(refused.value)
    assert f"build 'garden' was last screened --decontaminate {bench}, which is gone" in sentence
    assert "--defaults" in sentence and other not in sentence and "\n" not in sentence
    assert (record(plain), files(plain, "tables")) == before
    rescreen(with_thresholds(plain, decontaminate=(other,)))
    assert record(plain)["config"]["decontaminate"] == [other]


def test_the_default_thresholds_need_no_file_that_is_gone(plain, tmp_path):
    bench = write_rows(tmp_path / "bench.jsonl", [{"prompt": "Is it so?"}])
    rescreen(with_thresholds(plain, decontaminate=(bench,)))
    Path(bench).unlink()

    rescreen(ScreenConfig(name="garden", data=plain, skip_rule=NO_VECTORS))

    assert record(plain)["config"]["decontaminate"] == []


SECRET = "maria.hofmann@posteo.de"


def reply(body):
    """Two responses that hold personal data, and a verdict on each by its length."""
    text = body["messages"][0]["content"]
    if text.startswith("You judge"):
        return 200, completion(json.dumps({"reason": "r", "score": 1 + len(text) % 10}))
    return 200, completion(*(f"Ask {SECRET} {'once more ' * i}for it." for i in range(body["n"])))


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("source", "calls"),
    # Two responses and three probes; the generator is asked once for both.
    [("ready", {"score": 2 + 3}), ("sft", {"generate": 1, "score": 2 + 3})],
)
def test_all_calls_behind_a_redacted_pair_are_shown(endpoint, tmp_path, source, calls, at_once):
    asked = f"Who is it that answers at {SECRET}?"
    ready = [{"prompt": asked, "chosen": f"It is Maria, {SECRET}.", "rejected": f"Not {SECRET}."}]
    path = write_rows(tmp_path / "rows.jsonl", ready if source == "ready" else [{"prompt": asked}])
    url = f"{endpoint(reply).url}#m"
    fields = (
        {"source": path}
        if source == "ready"
        else {"source": "sft", "prompts": path, "generator": url, "num_responses": 2}
    )
    build(
        BuildConfig(**fields, name="garden", scorer=f"judge:{url}", skip_rule=NO_VECTORS, redact=at_once, data=tmp_path)
    )
    if not at_once:
        rescreen(with_thresholds(tmp_path, redact=True))
    pair = table_of(tmp_path, StageName.REDACT_PAIRS).scan().collect()
    assert "[email]" in pair["messages"].item()[0]["content"] and SECRET not in str(pair.to_dicts())

    found = explain(ExplainConfig(pair_id=pair["pair_id"].item(), data=tmp_path))

    assert Counter(call["kind"] for call in found.calls) == calls
    assert SECRET not in "\n".join(found.lines())


@pytest.mark.parametrize(("changes", "is_said"), [({"min_margin": 0.1}, False), ({"min_tokens": 2}, True)])
def test_candidates_set_aside_under_other_thresholds_are_said(endpoint, tmp_path, caplog, changes, is_said):
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "Who is it that answers?"}])
    url = f"{endpoint(reply).url}#m"
    fields = {"source": "sft", "prompts": path, "generator": url, "num_responses": 2, "scorer": f"judge:{url}"}
    build(BuildConfig(**fields, name="garden", skip_rule=NO_VECTORS, data=tmp_path))

    rescreen(with_thresholds(tmp_path, **changes))

    assert ("set aside before pairing" in caplog.text) == is_said


@pytest.mark.parametrize(("max_cosine", "floor"), [(1.0, 0.8), (0.8, 0.8), (0.79, 0.7), (0.7, 0.7), (0.5, 0.5)])
def test_lists_of_neighbors_serve_every_larger_threshold(tmp_path, max_cosine, floor):
    with open_session(tmp_path) as session:
        cfg = BuildConfig(source="samples", max_cosine=max_cosine)
        found = semantic_config(BuildState(cfg, Models(None, None, None), session)).floor

    assert found == pytest.approx(floor)
    assert found <= max_cosine


def test_verdicts_hold_the_id_the_rule_and_the_flags_alone(plain):
    rescreen(with_thresholds(plain, min_margin=3.0))

    table = table_of(plain, StageName.SCREEN_PAIRS)
    assert table.scan().collect_schema().names() == ["pair_id", "dropped_by", "flags"]
    assert table.rows == len(PAIRS)


def test_a_screening_is_the_build_under_the_same_thresholds(plain, tmp_path):
    wanted = {"min_margin": 3.0, "max_response_similarity": 0.8, "margin_quantiles": "0:0.9"}

    again = rescreen(with_thresholds(plain, **wanted))
    other = build(
        BuildConfig(source=str(plain / "garden.jsonl"), name="other", skip_rule=NO_VECTORS, data=plain, **wanted)
    )

    assert again.summary()["table"] == other.summary()["table"]
    assert {name: again.summary()[name] for name in ("kept", "dropped", "flags")} == {
        name: other.summary()[name] for name in ("kept", "dropped", "flags")
    }


def test_the_record_tells_of_the_last_screening(plain):
    rescreen(with_thresholds(plain, min_margin=3.0))

    saved = record(plain)
    summary = saved["summary"]
    assert saved["config"]["min_margin"] == 3.0
    assert saved["identities"]["screen_pairs"].startswith(saved["tables"]["screen_pairs"])
    assert saved["tables"].keys() == saved["identities"].keys()
    assert (summary["kept"], summary["dropped"], summary["table"]) == (
        8,
        {"low_margin": 2},
        saved["tables"]["screen_pairs"],
    )
    assert (summary["rows_in"], summary["name"]) == (10, "garden")
    assert last_thresholds(plain, "garden")["min_margin"] == 3.0


def test_going_back_to_earlier_thresholds_writes_no_table(plain):
    first = record(plain)
    rescreen(with_thresholds(plain, min_margin=3.0))
    tables = files(plain, "tables")

    rescreen(with_thresholds(plain, min_margin=0.0))

    assert record(plain)["tables"] == first["tables"]
    assert files(plain, "tables") == tables


def test_the_number_of_pairs_that_a_build_was_asked_for_holds_on(tmp_path):
    source = write_rows(tmp_path / "garden.jsonl")
    build(BuildConfig(source=source, name="garden", num_pairs=4, max_prompts=10, skip_rule=NO_VECTORS, data=tmp_path))

    loose = rescreen(with_thresholds(tmp_path, skip_rule=(*NO_VECTORS, "low_margin")))
    tight = rescreen(with_thresholds(tmp_path, skip_rule=NO_VECTORS, min_margin=100.0))

    assert loose.summary()["kept"] == 4
    assert tight.summary()["kept"] == 0
    assert record(tmp_path)["summary"]["short"] == 4


def test_a_mix_locked_to_the_earlier_screening_is_made_again_with_the_same_bytes(plain):
    first = mix(MixConfig(name="v1", add=("garden",), data=plain))
    content = folder_bytes(first.path)
    rescreen(with_thresholds(plain, min_margin=5.0))
    (first.path / "train-00000-of-00001.parquet").unlink()

    again = mix(MixConfig(name="v1", data=plain))
    other = mix(MixConfig(name="v2", add=("garden",), data=plain))

    assert folder_bytes(again.path) == content
    assert again.summary() == first.summary()
    assert (first.summary()["rows"], other.summary()["rows"]) == (10, 6)


def test_a_mix_with_vectors_is_made_again_with_the_same_bytes(embedded):
    rescreen(ScreenConfig(name="garden", data=embedded, max_cosine=1.0))
    first = mix(MixConfig(name="v1", add=("garden",), data=embedded))
    content = folder_bytes(first.path)
    rescreen(with_thresholds(embedded, min_margin=5.0))
    (first.path / "train-00000-of-00001.parquet").unlink()

    assert folder_bytes(mix(MixConfig(name="v1", data=embedded)).path) == content


@pytest.mark.parametrize(
    "changes",
    [
        {"min_margin": -1.0},
        {"skip_rule": ("over_quota",)},
        {"margin_quantiles": "1:0"},
        {"decontaminate": ("nowhere.jsonl",)},
        {"max_cosine": float("nan")},
    ],
)
def test_what_no_screening_can_mean_leaves_the_build_as_it_is(plain, changes):
    before = record(plain), files(plain, "tables")

    with pytest.raises(UserError):
        rescreen(with_thresholds(plain, **changes))

    assert (record(plain), files(plain, "tables")) == before


def test_a_damaged_part_is_never_screened_to_fewer_rows(plain):
    part = next((plain / "tables" / "measure_pairs").glob("*/part-00000.parquet"))
    before = part.read_bytes()
    part.unlink()

    screened = rescreen(with_thresholds(plain, min_margin=1.5))

    assert screened.pairs == len(PAIRS)
    assert part.read_bytes() == before
