"""What the rules of a build dropped, by example, and what would keep some of it."""

from dataclasses import astuple
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.stage import BuildState
from curate.pipeline.stages import rules_config
from curate.screen.cures import cure
from curate.screen.summary import TEXT_SHOWN, one_line, shortest, suggest_threshold, summarize_rules

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")


@pytest.fixture
def screened(screened):
    """Screens without what has to be looked for in other pairs."""

    def run(pairs: pl.DataFrame, **given: Any) -> BuildState:
        return screened(pairs, **{"skip_rule": NO_VECTORS, **given})

    return run


def suggestion(state: BuildState) -> str | None:
    return suggest_threshold(state.tables, rules_config(state.cfg, state.models.noise))


def test_a_build_that_drops_nothing_has_no_line_and_no_suggestion(screened, make_pairs):
    state = screened(make_pairs(score_chosen=[2.0, 3.0]))

    assert summarize_rules(state.tables) == []
    assert suggestion(state) is None


def test_an_empty_build_has_no_line_and_no_suggestion(screened, make_pairs):
    state = screened(make_pairs(score_chosen=[2.0]).head(0))

    assert summarize_rules(state.tables) == []
    assert suggestion(state) is None


def test_rules_come_in_the_order_they_are_tried_whichever_dropped_most(screened, make_pairs):
    pairs = make_pairs(
        chosen=["", "It is good for this.", "It is good for that.", "It is good for all."],
        score_chosen=[5.0, 1.0, 1.5, 9.0],
    )

    state = screened(pairs, min_margin=3.0)

    assert [(row.rule, row.dropped) for row in summarize_rules(state.tables)] == [
        ("empty", 1),
        ("tie", 1),
        ("low_margin", 1),
    ]
    assert [row.share for row in summarize_rules(state.tables)] == [0.25] * 3
    assert [row.threshold for row in summarize_rules(state.tables)] == [None, None, "--min-margin"]


def test_the_first_three_pairs_of_a_rule_are_its_examples(screened, make_pairs):
    pairs = make_pairs(score_chosen=[9.0, 1.1, 9.0, 1.2, 1.3, 1.4], pair_id=["a", "b", "c", "d", "e", "f"])

    state = screened(pairs, min_margin=3.0, rows=2)

    (row,) = summarize_rules(state.tables)
    assert row.dropped == 4
    assert [example.pair_id for example in row.examples] == ["b", "d", "e"]
    assert row.examples[1].prompt == "What is the number 3 good for?"
    assert row.examples[2].chosen == "It is good for counting up to 4."


def test_parts_without_an_example_are_not_read(screened, make_pairs):
    state = screened(make_pairs(score_chosen=[9.0, 9.0, 1.1, 1.2, 1.3, 1.4]), min_margin=3.0, rows=1)
    files = state.pairs.whole_files()
    for index in (0, 1, 5):
        files[index].unlink()

    (row,) = summarize_rules(state.tables)

    assert len(row.examples) == 3


def test_the_last_turn_of_a_conversation_is_its_prompt(screened, make_pairs):
    pairs = make_pairs(score_chosen=[1.0])
    turns = [{"role": "user", "content": "Hello there."}, {"role": "assistant", "content": "Hello."}]
    turns.append({"role": "user", "content": "And what now?"})
    pairs = pairs.with_columns(messages=pl.Series([turns], dtype=pairs.schema["messages"]))

    state = screened(pairs)

    assert summarize_rules(state.tables)[0].examples[0].prompt == "And what now?"


@pytest.mark.parametrize("side", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize("before", ["", "word " * 200])
def test_no_text_of_an_example_shows_personal_data(screened, make_pairs, side, before):
    secret = "Ask maria.hofmann@posteo.de or (415) 867-5309."
    pairs = make_pairs(**{side: [f"{before}{secret}"]}, score_chosen=[1.0])

    state = screened(pairs)

    (example,) = summarize_rules(state.tables)[0].examples
    assert getattr(example, side).endswith("Ask [email] or [phone].")
    assert not any("posteo" in text or "867" in text for text in astuple(example))


@given(st.text(max_size=300))
def test_an_example_is_one_short_line(text):
    line = one_line(text)

    assert len(line) <= TEXT_SHOWN
    assert len(line.splitlines()) <= 1
    assert line == " ".join(text.split()) or " … " in line


def test_a_text_as_long_as_a_line_is_whole_and_a_longer_one_keeps_both_ends():
    assert one_line("a" * TEXT_SHOWN) == "a" * TEXT_SHOWN
    assert one_line("a" * TEXT_SHOWN + "b") == f"{'a' * 45} … {'a' * 41}b"


@given(st.integers(min_value=-(10**10), max_value=10**10))
def test_a_number_of_four_digits_is_read_as_it_is_written(digits):
    assert float(shortest(digits / 1e4)) == digits / 1e4


def test_one_kept_pair_needs_no_suggestion(screened, make_pairs):
    assert suggestion(screened(make_pairs(score_chosen=[9.0, 1.0]))) is None


def test_the_rule_that_dropped_most_is_named_and_of_equal_ones_the_first_by_name(screened, make_pairs):
    most = screened(make_pairs(score_chosen=[2.0, 2.5, 1.0]), min_margin=5.0)
    even = screened(make_pairs(score_chosen=[2.0, 1.0]), min_margin=5.0)

    assert suggestion(most) == ("no pair was kept; low_margin dropped 2 of 3: --min-margin 1.5 would keep the first")
    assert suggestion(even) == "no pair was kept; low_margin dropped 1 of 2: --min-margin 1 would keep the first"


def test_a_quarter_is_of_the_pairs_that_no_other_rule_drops(screened, make_pairs):
    # Margins 1 to 8 and one of 50 that is empty; of the eight two reach the second largest.
    chosen = ["", *(f"It is good for {word} and more." for word in "abcdefgh")]
    pairs = make_pairs(chosen=chosen, score_chosen=[51.0, *(2.0 + i for i in range(8))])

    state = screened(pairs, min_margin=99.0)

    assert suggestion(state) == (
        "no pair was kept; low_margin dropped 8 of 9: --min-margin 8 would keep the first, 7 a quarter of them"
    )


def test_where_a_rule_after_it_would_drop_all_no_number_is_promised(screened, make_pairs):
    state = screened(make_pairs(score_chosen=[2.0, 3.0]), min_margin=99.0, min_tokens=99)

    assert suggestion(state) == (
        "no pair was kept; low_margin dropped 2 of 2: another --min-margin, or --skip-rule low_margin, would let them "
        "pass"
    )


def test_missing_scores_cannot_be_skipped(screened, make_pairs):
    state = screened(make_pairs(score_chosen=[None, None], failed_score=[True, True]))

    assert suggestion(state) == f"no pair was kept; failed_score dropped 2 of 2: {cure('failed_score')}"


def test_quantiles_are_no_single_number(screened, make_pairs):
    # Of margins 1, 2 and 9 the last is the largest, and an answer too short for the rule after it.
    chosen = ["It is good for you.", "It is good for me.", "Fine"]
    state = screened(make_pairs(score_chosen=[2.0, 3.0, 10.0], chosen=chosen), margin_quantiles="0.9:1", min_tokens=4)

    assert suggestion(state) == (
        "no pair was kept; outside_quantiles dropped 2 of 3: "
        "another --margin-quantiles, or --skip-rule outside_quantiles, would let them pass"
    )


def test_a_negative_least_score_may_be_advised(screened, make_pairs):
    state = screened(make_pairs(score_chosen=[-2.5], score_rejected=[-4.0]), min_score=0.0)

    assert suggestion(state) == "no pair was kept; low_score dropped 1 of 1: --min-score -2.5 would keep the first"


def test_the_rejected_side_of_a_written_flaw_sets_no_threshold(screened, make_pairs):
    pairs = make_pairs(
        chosen=["One two three four five six."],
        rejected=["One two three."],
        flaw=["truncation"],
        rejected_finish=["stop"],
        chosen_finish=["stop"],
    )

    # Six words and a full stop.
    assert suggestion(screened(pairs, min_tokens=99)).endswith("--min-tokens 7 would keep the first")
    assert suggestion(screened(pairs.with_columns(flaw=None), min_tokens=99)).endswith(
        "--min-tokens 4 would keep the first"
    )
    allowed = screened(pairs.with_columns(flaw=None), min_tokens=99, allow_degenerate_rejected=True)
    assert suggestion(allowed).endswith("--min-tokens 7 would keep the first")
