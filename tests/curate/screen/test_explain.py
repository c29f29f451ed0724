"""The verdict on one pair, and the pair that was kept in its place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl
import pytest
from garden import PAIRS

from curate.config import Thresholds
from curate.pipeline.stages import ScreenContext, screen_tables
from curate.screen.explain import NAMES, explain_screening, screening_lines
from curate.store.store import Part, Store, Table
from schemas.tables import Dropped, Pair, Probed

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
TEXTS = [{"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"]} for row in PAIRS]
DUPLICATES = ("duplicate_pair", "lexical_duplicate", "semantic_duplicate_prompt", "semantic_duplicate_pair")


@dataclass(frozen=True)
class RowsConfig:
    """Pairs of a test."""

    name: str = ""


@pytest.fixture
def screened(tmp_path, recorder) -> Callable[..., dict[str, Table]]:
    """Screens pairs with the real encoder; its vectors are kept for the test."""

    def run(pairs: pl.DataFrame, probed: pl.DataFrame | None = None, **thresholds) -> dict[str, Table]:
        def read_pairs(cfg: RowsConfig) -> Iterator[Part]:
            yield Part(pairs, Dropped.create_empty())

        def score_probes(cfg: RowsConfig) -> Iterator[Part]:
            assert probed is not None
            yield Part(probed, Dropped.create_empty())

        store = Store(tmp_path, recorder)
        table = store.read(read_pairs, RowsConfig(), writes=Pair)
        tables = {"read_pairs": table}
        if probed is not None:
            tables["score_probes"] = store.read(score_probes, RowsConfig(), writes=Probed)
        return tables | screen_tables(
            Thresholds(**thresholds), table, tables.get("score_probes"), ScreenContext(), store, recorder
        )

    return run


def told(make_pairs: Callable[..., pl.DataFrame], rows: list[dict], **columns: list) -> pl.DataFrame:
    """Pairs with these texts, in the columns that `make_pairs` takes."""
    return make_pairs(**{name: [row[name] for row in rows] for name in rows[0]}, **columns)


def lines(tables: dict[str, Table], pair_id: str) -> list[str]:
    return screening_lines(explain_screening(tables, pair_id), tables["screen_pairs"].manifest.config)


def test_a_pair_without_verdict_has_none(screened, make_pairs):
    tables = screened(told(make_pairs, TEXTS[:1]), skip_rule=NO_VECTORS)

    assert explain_screening(tables, "0123456789abcdef") is None
    assert screening_lines(None, {}) == ["not screened"]


def test_a_kept_pair_is_told_with_all_that_the_rules_looked_at(screened, make_pairs):
    tables = screened(told(make_pairs, TEXTS[:2], pair_id=["a", "b"], score_chosen=[3.0, 4.0]))

    found = explain_screening(tables, "a")
    text = lines(tables, "a")

    assert (found["dropped_by"], found["duplicate_of"], found["similarity"]) == (None, None, None)
    assert found["measured"]["margin"] == 2.0
    assert found["contaminated"] is None
    assert found["placed"]["chosen_cos_prompt"] > 0.3
    assert text[:2] == ["kept", "margin 2.0000 (min margin 0)"]
    assert text[2].startswith("chosen: 17 tokens, cut off: no, repeats 0.00, echoes 0.")
    assert "cosine to its prompt 0." in text[2] and text[3].startswith("rejected: ")


def test_what_was_never_looked_for_is_left_out(screened, make_pairs):
    pairs = told(make_pairs, TEXTS[:1], pair_id=["a"], score_chosen=[None], score_rejected=[None])
    tables = screened(pairs, skip_rule=(*NO_VECTORS, "lexical_duplicate", "contaminated"))

    found = explain_screening(tables, "a")
    text = lines(tables, "a")

    assert (found["placed"], found["contaminated"], found["probes"]) == (None, None, [])
    assert text[1] == "no margin (min margin 0)"
    assert not any("cosine" in line for line in text)


@pytest.mark.parametrize(
    ("change", "rule", "least"),
    [
        ({}, "duplicate_pair", 1.0),
        ({"rejected": "Nobody has ever heard of such a thing."}, "lexical_duplicate", 1.0),
        (
            {"chosen": TEXTS[0]["chosen"].replace("spring", "May"), "rejected": "No idea, sorry."},
            "lexical_duplicate",
            0.8,
        ),
        (
            {"prompt": "Why do roses lose leaves in the autumn?", "chosen": TEXTS[1]["chosen"]},
            "semantic_duplicate_prompt",
            0.9,
        ),
    ],
)
def test_the_pair_that_was_kept_is_named(screened, make_pairs, change, rule, least):
    rows = [TEXTS[0], TEXTS[0] | change, *TEXTS[2:5]]
    pairs = told(make_pairs, rows, pair_id=list("abcde"), score_chosen=[2.0, 3.0, 9.0, 9.0, 9.0])
    tables = screened(pairs, max_cosine=0.9)

    found = explain_screening(tables, "a")

    assert (found["dropped_by"], found["duplicate_of"]) == (rule, "b")
    assert least <= found["similarity"] <= 1.0
    assert lines(tables, "a")[0] == f"dropped by {rule}: too like b ({found['similarity']:.3f})"
    assert explain_screening(tables, "b")["dropped_by"] is None


def test_the_best_of_several_kept_ones_is_named(screened, make_pairs):
    pairs = told(
        make_pairs,
        [TEXTS[0] | {"rejected": f"No word about it, said the {who}."} for who in ("king", "queen", "fool", "cook")],
        pair_id=list("abcd"),
        score_chosen=[3.0, 9.0, 5.0, 2.0],
    )

    tables = screened(pairs, keep_per_cluster=2, skip_rule=NO_VECTORS)

    verdicts = {pair_id: explain_screening(tables, pair_id) for pair_id in "abcd"}
    assert {pair_id: found["dropped_by"] for pair_id, found in verdicts.items()} == {
        **dict.fromkeys("bc"),
        **dict.fromkeys("ad", "lexical_duplicate"),
    }
    assert verdicts["a"]["duplicate_of"] == verdicts["d"]["duplicate_of"] == "b"


def test_a_pair_that_a_later_rule_dropped_was_kept_by_this_one(screened, make_pairs):
    rows = [TEXTS[0], TEXTS[0], TEXTS[0] | {"rejected": "Nobody knows a thing about it, I fear."}]
    pairs = told(make_pairs, rows, pair_id=list("abc"), score_chosen=[2.0, 3.0, 9.0])

    tables = screened(pairs, skip_rule=NO_VECTORS)

    # `b` is the better one of two equal pairs, and falls to `c` by a rule after that.
    assert [explain_screening(tables, pair_id)["dropped_by"] for pair_id in "abc"] == [
        "duplicate_pair",
        "lexical_duplicate",
        None,
    ]
    assert (explain_screening(tables, "a")["duplicate_of"], explain_screening(tables, "b")["duplicate_of"]) == (
        "b",
        "c",
    )


def test_every_look_alike_that_fell_names_a_better_pair_that_its_rule_kept(screened, make_pairs):
    words = ("slowly", "surely", "gladly", "rarely", "often")
    rows = [
        row
        | {
            "chosen": f"{row['chosen']} So they say {word}.",
            "rejected": f"{row['rejected']} I say it {i % 3} times {word}.",
        }
        for row in TEXTS[:4]
        for i, word in enumerate(words * 2)
    ]
    scores = [1.5 + (7 * i) % 13 for i in range(len(rows))]
    ids = [f"{i:03}" for i in range(len(rows))]
    tables = screened(told(make_pairs, rows, pair_id=ids, score_chosen=scores))

    margins = dict(zip(ids, scores, strict=True))
    fallen = [explain_screening(tables, pair_id) for pair_id in ids]
    fallen = [found for found in fallen if found["dropped_by"] in DUPLICATES]
    assert len(fallen) >= 30
    for found in fallen:
        best = explain_screening(tables, found["duplicate_of"])
        place = NAMES.index(found["dropped_by"])
        assert margins[found["pair_id"]] <= margins[best["pair_id"]]
        assert best["dropped_by"] is None or NAMES.index(best["dropped_by"]) > place
        assert found["similarity"] >= 0.8


def test_a_contaminated_pair_names_the_prompt_and_a_flagged_one_its_flags(tmp_path, screened, make_pairs):
    (tmp_path / "bench.jsonl").write_text('{"prompt": "Why do roses lose their leaves in autumn?"}\n')
    rows = [TEXTS[0], TEXTS[1] | {"chosen": "I am sorry, but I cannot help with that, ask maria@posteo.de."}]

    tables = screened(
        told(make_pairs, rows, pair_id=["a", "b"]), decontaminate=(str(tmp_path / "bench.jsonl"),), skip_rule=NO_VECTORS
    )

    assert lines(tables, "a")[0] == "dropped by contaminated"
    assert lines(tables, "a")[-1] == "holds 100% of prompt 0 of bench.jsonl"
    assert lines(tables, "b")[-1] == "flagged: refusal_chosen, email"


def test_the_scores_of_probes_are_told(screened, make_pairs):
    probes = [
        {"pair_id": "a", "probe": "empty", "score": 9.0, "reason": None, "call_id": "x"},
        {"pair_id": "a", "probe": "refusal", "score": None, "reason": "no answer", "call_id": "y"},
    ]
    probed = pl.DataFrame(probes, schema=Probed.create_empty().schema)

    tables = screened(told(make_pairs, TEXTS[:1], pair_id=["a"]), probed=probed, skip_rule=NO_VECTORS)

    assert [(probe["probe"], probe["score"]) for probe in explain_screening(tables, "a")["probes"]] == [
        ("empty", 9.0),
        ("refusal", None),
    ]
    assert lines(tables, "a")[-1] == "flagged: scorer_unreliable"


def test_a_margin_in_z_and_the_noise_are_told(screened, make_pairs, tmp_path):
    pairs = told(make_pairs, TEXTS[:1], pair_id=["a"], z_chosen=[1.25], z_rejected=[-1.0])
    tables = screened(pairs, skip_rule=NO_VECTORS)

    rules = {**tables["screen_pairs"].manifest.config, "noise": 0.125, "min_margin": 0.5}

    assert (
        screening_lines(explain_screening(tables, "a"), rules)[1]
        == "margin 1.0000, 2.25 in z (noise 0.125, min margin 0.5)"
    )
