import math
import statistics

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.config import Thresholds
from curate.pipeline.pairing import PairConfig, Policy, make_pairs, policy_for
from curate.screen.rules import guard_config
from curate.store.store import make_frame
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Candidate, Pair, Prompt, Score

MESSAGES = [{"role": "user", "content": "Name a colour."}]
PROMPT_ID = prompt_key(MESSAGES)
POLICIES = ("best_worst", "best_sigma", "best_random", "adjacent")


def tables(*candidates: tuple[str, float | None]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """One prompt and its candidates as (response, score)."""
    prompts = make_frame(
        Prompt,
        [
            {
                "prompt_id": PROMPT_ID,
                "place": 0,
                "messages": MESSAGES,
                "prompt_group": prompt_group(MESSAGES),
                "license": "MIT",
            }
        ]
        if candidates
        else [],
    )
    drawn = [
        {
            "candidate_id": f"c{i}",
            "prompt_id": PROMPT_ID,
            "sample_index": i,
            "response": response,
            "finish_reason": "stop",
            "call_id": f"call{i}",
        }
        for i, (response, _) in enumerate(candidates)
    ]
    scores = [
        {
            "candidate_id": f"c{i}",
            "scorer": "scripted",
            "prompt_id": PROMPT_ID,
            "score": score,
            "reason": None if score is not None else "failed",
            "call_id": "x",
        }
        for i, (_, score) in enumerate(candidates)
    ]
    return prompts, make_frame(Candidate, drawn), make_frame(Score, scores)


def config(policy: Policy = "best_worst", seed: int = 0, *, allow_degenerate_rejected: bool = False) -> PairConfig:
    """One word is enough of a response, so that texts can be read at a glance."""
    return PairConfig(policy, seed, guard_config(Thresholds(min_tokens=1)), allow_degenerate_rejected)


def pair_of(*candidates: tuple[str, float | None]) -> dict[str, object]:
    return make_pairs(*tables(*candidates), config()).rows.row(0, named=True)


def numbered(*scores: float | None) -> list[tuple[str, float | None]]:
    """Candidates whose text is their position."""
    return [(f"r{i}", score) for i, score in enumerate(scores)]


def pairs_of(policy: str, *scores: float | None, seed: int = 0) -> list[tuple[str, str]]:
    made = make_pairs(*tables(*numbered(*scores)), config(policy, seed))
    return made.rows.select("chosen", "rejected").rows()


@pytest.mark.parametrize("policy", POLICIES)
def test_no_prompts_give_no_pairs_and_drop_nothing(policy):
    made = make_pairs(*tables(), config(policy))

    assert (made.rows.height, made.dropped.height) == (0, 0)
    assert made.rows.schema == Pair.create_empty().schema


def test_an_empty_best_response_is_never_chosen_and_does_not_cost_the_prompt():
    pair = pair_of(("", 9.0), (" \u200b<|im_end|>\n", 8.0), ("red", 2.0), ("blue", 1.0))

    assert (pair["chosen"], pair["rejected"]) == ("red", "blue")


def test_an_empty_worst_response_is_never_rejected():
    pair = pair_of(("red", 2.0), ("blue", 1.0), ("", -5.0))

    assert (pair["chosen"], pair["rejected"]) == ("red", "blue")


def test_equal_scores_make_a_pair_of_equal_scores_for_screening_to_drop():
    pair = pair_of(("red", 1.0), ("blue", 1.0))

    assert (pair["chosen"], pair["rejected"], pair["score_chosen"]) == ("red", "blue", 1.0)


def test_among_equally_good_responses_the_earlier_sample_is_chosen():
    pair = pair_of(("worst", 0.0), ("first best", 3.0), ("second best", 3.0))

    assert pair["chosen"] == "first best"


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_failed_is_set_aside_and_not_read_as_a_low_one(score):
    pair = pair_of(("red", 2.0), ("failed", score), ("blue", 1.0))

    assert (pair["chosen"], pair["rejected"]) == ("red", "blue")


def test_fewer_than_two_scored_responses_drop_the_prompt_as_failed_score():
    made = make_pairs(*tables(("red", 2.0), ("blue", None)), config())

    assert made.rows.is_empty()
    assert made.dropped["reason"].to_list() == ["failed_score"]


def test_fewer_than_two_responses_with_text_drop_the_prompt_as_empty():
    made = make_pairs(*tables(("red", 2.0), ("", 3.0), ("  ", 1.0)), config())

    assert made.dropped["reason"].to_list() == ["empty"]


def test_among_equally_bad_responses_the_earlier_sample_is_rejected():
    assert pairs_of("best_worst", 3.0, 0.0, 0.0) == [("r0", "r1")]


def test_auto_is_best_worst_below_16_responses_and_best_sigma_from_there():
    assert [policy_for("auto", n) for n in (2, 15, 16, 64)] == ["best_worst", "best_worst", "best_sigma", "best_sigma"]
    assert policy_for("adjacent", 4) == "adjacent"


def test_best_sigma_rejects_the_score_two_deviations_under_the_mean_and_not_the_worst():
    # With -6: the sum of 16 scores is 8·1 + 4·3 + 2·(-1) + 4 - 6 = 16, the mean 1. The squares of the differences
    # are 8·0 + 4·4 + 2·4 + 9 + 49 = 82, the deviation sqrt(82/16) = 2.264, the aim 1 - 4.528 = -3.528.
    # -1 is 2.528 away and -6 only 2.472. With -7: the sum is 15, the mean 0.9375, the squares
    # 8 + 36 + 2 + 16 + 49 - 16·0.9375² = 96.94, the deviation 2.461, the aim -3.985. -1 is 2.985 away, -7 is 3.015.
    rest = [1.0] * 8 + [3.0] * 4 + [-1.0] * 2 + [4.0]

    assert pairs_of("best_sigma", *rest, -6.0) == [("r14", "r15")]
    assert pairs_of("best_sigma", *rest, -7.0) == [("r14", "r12")]


@pytest.mark.parametrize("two", [(-3.0, -1.0), (-1.0, -3.0)])
def test_of_two_equally_far_from_the_aim_best_sigma_rejects_the_earlier_sample(two):
    # Sum -3 - 1 - 1 + 5·1 = 0, squares 9 + 1 + 1 + 5 = 16: mean 0, deviation 1, aim -2. -3 and -1 are both 1 away.
    assert pairs_of("best_sigma", 1.0, *two, -1.0, *[1.0] * 4, *[0.0] * 8) == [("r0", "r1")]


@pytest.mark.parametrize("policy", ["best_worst", "best_sigma"])
@pytest.mark.parametrize("score", [0.0, 0.1, 1e300])
def test_equal_scores_pair_the_first_two_samples_without_z(policy, score):
    made = make_pairs(*tables(*numbered(*[score] * 16)), config(policy))

    assert made.rows.select("chosen", "rejected", "z_chosen", "z_rejected").rows() == [("r0", "r1", None, None)]


def test_best_random_rejects_any_other_the_same_one_for_a_seed():
    scores = [4.0, 3.0, 2.0, 1.0]

    drawn = {pairs_of("best_random", *scores, seed=seed)[0] for seed in range(40)}

    # Each of three is drawn with probability 1/3: one is never drawn in 40 with probability 3·(2/3)^40 < 1e-6.
    assert drawn == {("r0", "r1"), ("r0", "r2"), ("r0", "r3")}
    assert pairs_of("best_random", *scores, seed=7) == pairs_of("best_random", *scores, seed=7)


def test_adjacent_pairs_each_response_with_the_next_in_rank():
    assert pairs_of("adjacent", 1.0, 3.0, None, 2.0, 2.0) == [("r1", "r3"), ("r3", "r4"), ("r4", "r0")]


def test_z_is_the_score_in_deviations_of_the_usable_candidates():
    # 4, 2 and 0: mean 2, deviation sqrt(8/3) = 1.633. The empty response and the failed score do not count.
    pair = pair_of(("a", 4.0), ("", 90.0), ("b", 2.0), ("c", None), ("d", 0.0))

    assert pair["z_chosen"] == pytest.approx(2 / math.sqrt(8 / 3))
    assert pair["z_rejected"] == pytest.approx(-2 / math.sqrt(8 / 3))


def test_pairs_of_one_prompt_that_say_the_same_have_ids_of_their_own_with_the_same_text_key():
    # Ranked: a, b, a, b. The first and the last pair are both (a, b).
    made = make_pairs(*tables(("a", 4.0), ("b", 3.0), ("a", 2.0), ("b", 1.0)), config("adjacent"))

    first, middle, last = made.rows["pair_id"]
    assert last == f"{first}.2"
    assert middle[:16] != first[:16]


def test_the_same_pair_of_a_repeated_prompt_does_not_take_the_id_of_a_repeated_pair():
    prompts, candidates, scores = tables(("a", 4.0), ("b", 3.0), ("a", 2.0), ("b", 1.0))
    again = {"prompt_id": pl.lit(f"{PROMPT_ID}-2")}
    other = {**again, "candidate_id": pl.col("candidate_id") + "x"}

    made = make_pairs(
        pl.concat([prompts, prompts.with_columns(**again)]),
        pl.concat([candidates, candidates.with_columns(**other)]),
        pl.concat([scores, scores.with_columns(**other)]),
        config("adjacent"),
    )

    ids = made.rows["pair_id"].to_list()
    assert [pair_id[16:] for pair_id in ids] == ["", "", ".2", "-2", "-2", "-2.2"]
    assert len(set(ids)) == 6


@pytest.mark.parametrize("policy", POLICIES)
@given(
    candidates=st.lists(
        st.tuples(st.sampled_from(["", " ", "a", "b", "c"]), st.none() | st.integers(-3, 3).map(float)), min_size=1
    ),
    seed=st.integers(0, 3),
)
def test_every_prompt_is_paired_or_dropped_and_chosen_scores_at_least_rejected(policy, candidates, seed):
    made = make_pairs(*tables(*candidates), config(policy, seed))

    usable = sum(bool(text.strip()) and score is not None for text, score in candidates)
    pairs = max(0, usable - 1) if policy == "adjacent" else int(usable > 1)
    assert (made.rows.height, made.dropped.height) == (pairs, int(not pairs))
    assert made.rows["pair_id"].n_unique() == pairs
    for pair in made.rows.to_dicts():
        assert pair["score_chosen"] >= pair["score_rejected"]
        assert pair["chosen"].strip() and pair["rejected"].strip()


@pytest.mark.parametrize("policy", POLICIES)
@given(scores=st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=20), seed=st.integers(0, 3))
def test_no_candidate_is_paired_with_itself_and_the_best_is_chosen(policy, scores, seed):
    pairs = pairs_of(policy, *scores, seed=seed)

    assert all(chosen != rejected for chosen, rejected in pairs)
    assert pairs[0][0] == f"r{scores.index(max(scores))}"


@given(st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=20))
def test_no_score_is_nearer_to_two_deviations_under_the_mean_than_the_rejected_one(scores):
    pair = make_pairs(*tables(*numbered(*scores)), config("best_sigma")).rows.row(0, named=True)

    aim = statistics.fmean(scores) - 2 * statistics.pstdev(scores)
    others = [score for i, score in enumerate(scores) if f"r{i}" != pair["chosen"]]
    assert abs(pair["score_rejected"] - aim) <= min(abs(score - aim) for score in others) + 1e-8


LOOP = "again and again " * 20


def degenerate(
    *candidates: tuple[str, float | None], allowed: bool, policy: Policy = "best_worst"
) -> list[tuple[str, str]]:
    """The pairs of candidates of which some may be degenerate."""
    made = make_pairs(*tables(*candidates), config(policy, allow_degenerate_rejected=allowed))
    return made.rows.select("chosen", "rejected").rows()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("allowed", [True, False])
def test_a_degenerate_candidate_is_never_chosen(policy, allowed):
    pairs = degenerate((LOOP, 9.0), ("red", 2.0), ("blue", 1.0), allowed=allowed, policy=policy)

    assert pairs == [("red", "blue")]


def test_a_degenerate_candidate_is_rejected_only_where_that_is_allowed():
    candidates = (("red", 3.0), ("blue", 2.0), (LOOP, 1.0))

    assert degenerate(*candidates, allowed=False) == [("red", "blue")]
    assert degenerate(*candidates, allowed=True) == [("red", LOOP)]


def test_at_equal_scores_the_degenerate_candidate_is_the_rejected_one():
    assert degenerate((LOOP, 1.0), ("red", 1.0), allowed=True) == [("red", LOOP)]


def test_adjacent_sets_what_follows_a_degenerate_candidate_against_the_last_sound_one():
    pairs = degenerate(("red", 3.0), (LOOP, 2.0), ("blue", 1.0), allowed=True, policy="adjacent")

    assert pairs == [("red", LOOP), ("red", "blue")]


def test_a_response_cut_off_by_its_finish_reason_is_set_aside():
    prompts, candidates, scores = tables(("red", 3.0), ("blue", 2.0), ("green", 1.0))
    cut = candidates.with_columns(finish_reason=pl.Series(["length", "stop", None]))

    pair = make_pairs(prompts, cut, scores, config()).rows.row(0, named=True)

    assert (pair["chosen"], pair["rejected"]) == ("blue", "green")
    assert (pair["chosen_finish"], pair["rejected_finish"]) == ("stop", None)


@pytest.mark.parametrize(
    ("candidates", "reason"),
    [
        ([(LOOP, 3.0), (LOOP, 2.0), ("", 1.0), ("red", 0.0)], "repetition"),
        ([(LOOP, 3.0), ("", 1.0)], "empty"),
        ([(LOOP, 3.0), ("red", None), ("blue", 1.0)], "failed_score"),
        ([(LOOP, None), ("red", 1.0)], "repetition"),
        ([("red", 1.0)], "failed_score"),
    ],
)
def test_a_prompt_left_with_too_few_names_a_failed_score_else_the_guard_most_broke(candidates, reason):
    made = make_pairs(*tables(*candidates), config())

    assert (made.rows.height, made.dropped["reason"].to_list()) == (0, [reason])


def test_guards_to_skip_set_nothing_aside():
    cfg = PairConfig(guards=guard_config(Thresholds(min_tokens=1, skip_rule=("repetition",))))

    pair = make_pairs(*tables((LOOP, 9.0), ("red", 2.0)), cfg).rows.row(0, named=True)

    assert pair["chosen"] == LOOP
