"""The verdict on one pair, and the pair that was kept in its place."""

from collections.abc import Callable

import polars as pl
import pytest
from garden import PAIRS

from curate.pipeline.stage import BuildState
from curate.screen.explain import Screening, explain_screening
from curate.screen.rules import RULES
from schemas.stages import StageName
from schemas.tables import Probed

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
TEXTS = [{"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"]} for row in PAIRS]
DUPLICATES = ("duplicate_pair", "lexical_duplicate", "semantic_duplicate_prompt", "semantic_duplicate_pair")
ORDER = [rule.name for rule in RULES]


def with_texts(make_pairs: Callable[..., pl.DataFrame], rows: list[dict], **columns: list) -> pl.DataFrame:
    """Pairs with these texts, in the columns that `make_pairs` takes."""
    return make_pairs(**{name: [row[name] for row in rows] for name in rows[0]}, **columns)


def explained(state: BuildState, pair_id: str) -> Screening:
    """What screening found of a pair that it has a verdict on."""
    found = explain_screening(state.tables, pair_id)
    assert found
    return found


def lines(state: BuildState, pair_id: str) -> list[str]:
    return explained(state, pair_id).lines()


def test_a_pair_without_verdict_has_none(screened, make_pairs):
    state = screened(with_texts(make_pairs, TEXTS[:1]), skip_rule=NO_VECTORS)

    assert explain_screening(state.tables, "0123456789abcdef") is None


def test_a_kept_pair_is_told_with_all_that_the_rules_looked_at(screened, make_pairs):
    state = screened(with_texts(make_pairs, TEXTS[:2], pair_id=["a", "b"], score_chosen=[3.0, 4.0]))

    found = explained(state, "a")
    text = lines(state, "a")

    assert (found.dropped_by, found.duplicate_of, found.similarity) == (None, None, None)
    assert found.features[StageName.MEASURE_PAIRS]["margin"] == 2.0
    assert found.features[StageName.FIND_CONTAMINATION] is None
    assert found.features[StageName.MEASURE_TOPICALITY]["chosen_cos_prompt"] > 0.3
    assert text[:2] == ["kept", "margin 2.0000 (min margin 0)"]
    assert text[2].startswith("chosen: 17 tokens, truncated: no, repeats 0.00, echoes 0.")
    assert "cosine to its prompt 0." in text[2] and text[3].startswith("rejected: ")


def test_what_was_never_looked_for_is_left_out(screened, make_pairs):
    pairs = with_texts(make_pairs, TEXTS[:1], pair_id=["a"], score_chosen=[None], score_rejected=[None])
    state = screened(pairs, skip_rule=(*NO_VECTORS, "lexical_duplicate", "contaminated"))

    found = explained(state, "a")
    text = lines(state, "a")

    left_out = (StageName.MEASURE_TOPICALITY, StageName.FIND_CONTAMINATION)
    assert ([found.features[stage] for stage in left_out], found.probes) == ([None, None], [])
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
    pairs = with_texts(make_pairs, rows, pair_id=list("abcde"), score_chosen=[2.0, 3.0, 9.0, 9.0, 9.0])
    state = screened(pairs, max_cosine=0.9)

    found = explained(state, "a")

    assert (found.dropped_by, found.duplicate_of) == (rule, "b")
    assert least <= found.similarity <= 1.0
    assert lines(state, "a")[0] == f"dropped by {rule}: too like b ({found.similarity:.3f})"
    assert explained(state, "b").dropped_by is None


def test_the_best_of_several_kept_ones_is_named(screened, make_pairs):
    pairs = with_texts(
        make_pairs,
        [TEXTS[0] | {"rejected": f"No word about it, said the {who}."} for who in ("king", "queen", "fool", "cook")],
        pair_id=list("abcd"),
        score_chosen=[3.0, 9.0, 5.0, 2.0],
    )

    state = screened(pairs, keep_per_cluster=2, skip_rule=NO_VECTORS)

    verdicts = {pair_id: explained(state, pair_id) for pair_id in "abcd"}
    assert {pair_id: found.dropped_by for pair_id, found in verdicts.items()} == {
        **dict.fromkeys("bc"),
        **dict.fromkeys("ad", "lexical_duplicate"),
    }
    assert verdicts["a"].duplicate_of == verdicts["d"].duplicate_of == "b"


def test_a_pair_that_a_later_rule_dropped_was_kept_by_this_one(screened, make_pairs):
    rows = [TEXTS[0], TEXTS[0], TEXTS[0] | {"rejected": "Nobody knows a thing about it, I fear."}]
    pairs = with_texts(make_pairs, rows, pair_id=list("abc"), score_chosen=[2.0, 3.0, 9.0])

    state = screened(pairs, skip_rule=NO_VECTORS)

    # `b` is the better one of two equal pairs, and falls to `c` by a rule after that.
    assert [explained(state, pair_id).dropped_by for pair_id in "abc"] == [
        "duplicate_pair",
        "lexical_duplicate",
        None,
    ]
    assert (explained(state, "a").duplicate_of, explained(state, "b").duplicate_of) == (
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
    state = screened(with_texts(make_pairs, rows, pair_id=ids, score_chosen=scores))

    margins = dict(zip(ids, scores, strict=True))
    verdicts = {pair_id: explained(state, pair_id) for pair_id in ids}
    fallen = {pair_id: found for pair_id, found in verdicts.items() if found.dropped_by in DUPLICATES}
    assert len(fallen) >= 30
    for pair_id, found in fallen.items():
        best = verdicts[found.duplicate_of]
        place = ORDER.index(found.dropped_by)
        assert margins[pair_id] <= margins[found.duplicate_of]
        assert best.dropped_by is None or ORDER.index(best.dropped_by) > place
        assert found.similarity >= 0.8


def test_a_contaminated_pair_names_the_prompt_and_a_flagged_one_its_flags(tmp_path, screened, make_pairs):
    (tmp_path / "bench.jsonl").write_text('{"prompt": "Why do roses lose their leaves in autumn?"}\n')
    rows = [TEXTS[0], TEXTS[1] | {"chosen": "I am sorry, but I cannot help with that, ask maria@posteo.de."}]

    state = screened(
        with_texts(make_pairs, rows, pair_id=["a", "b"]),
        decontaminate=(str(tmp_path / "bench.jsonl"),),
        skip_rule=NO_VECTORS,
    )

    assert lines(state, "a")[0] == "dropped by contaminated"
    assert lines(state, "a")[-1] == "holds 100% of prompt 0 of bench.jsonl"
    assert lines(state, "b")[-1] == "flagged: refusal_chosen, email"


def test_the_scores_of_probes_are_with_texts(screened, make_pairs):
    probes = [
        {"pair_id": "a", "probe": "empty", "score": 9.0, "reason": None, "call_id": "x"},
        {"pair_id": "a", "probe": "refusal", "score": None, "reason": "no answer", "call_id": "y"},
    ]
    probed = pl.DataFrame(probes, schema=Probed.create_empty().schema)

    state = screened(with_texts(make_pairs, TEXTS[:1], pair_id=["a"]), probed=probed, skip_rule=NO_VECTORS)

    assert [(probe["probe"], probe["score"]) for probe in explained(state, "a").probes] == [
        ("empty", 9.0),
        ("refusal", None),
    ]
    assert lines(state, "a")[-1] == "flagged: scorer_unreliable"


def test_a_margin_in_z_and_the_noise_are_with_texts(screened, make_pairs):
    pairs = with_texts(make_pairs, TEXTS[:1], pair_id=["a"], z_chosen=[1.25], z_rejected=[-1.0])

    state = screened(pairs, noise=0.125, min_margin=0.5, skip_rule=NO_VECTORS)

    assert lines(state, "a")[1] == "margin 1.0000, 2.25 in z (noise 0.125, min margin 0.5)"
