import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.generate.flaw_checks import Written
from curate.generate.flaws import (
    FLAW_KINDS,
    deal_flaws,
    flaw_instruction,
    flaw_summary,
    parse_flaws,
    raw_row,
    unusable_reason,
)
from curate.store.store import dropped_row, make_frame
from schemas.errors import UserError
from schemas.names import FLAWS, WRITTEN_FLAWS
from schemas.tables import Dropped, Pair

UNIFORM = tuple(parse_flaws("").items())
CHOSEN = "Boil fresh water. Warm the pot. Add one spoon of leaves per cup, pour, and wait four minutes."


def test_written_flaws_are_flaws_with_bounds_that_hold_something():
    assert set(WRITTEN_FLAWS) < set(FLAWS)
    assert tuple(FLAW_KINDS) == WRITTEN_FLAWS
    assert all(0 < kind.min_ratio < kind.max_ratio for kind in FLAW_KINDS.values())


@pytest.mark.parametrize("flaw", WRITTEN_FLAWS)
def test_the_writer_is_told_the_flaw_the_keys_and_what_to_quote(flaw):
    told = flaw_instruction(flaw)

    assert f'"flaw": "{flaw}"' in told
    assert FLAW_KINDS[flaw].flawed in told
    assert "{flaw" not in told and "{{" not in told


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("none", {}),
        (" none ", {}),
        ("", dict.fromkeys(WRITTEN_FLAWS, 0.1)),
        ("logic=1", {"logic": 1.0}),
        ("truncation=1, factual=3", {"factual": 0.75, "truncation": 0.25}),
        ("factual=.2,logic=0", {"factual": 1.0}),
    ],
)
def test_shares_are_normalized_and_in_one_order(text, shares):
    found = parse_flaws(text)

    assert list(found.items()) == [(name, pytest.approx(share)) for name, share in shares.items()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("factul=1", "did you mean 'factual'"),
        ("zzz=1", "known are factual, logic"),
        ("repetition=1", "no flaw that can be asked for"),
        ("factual=-1", "must be 0 or more"),
        ("factual=nan", "must be 0 or more"),
        ("factual=inf", "must be 0 or more"),
        ("factual=1e308,logic=1e308", "must be 0 or more|sum"),
        ("factual=x", "found 'x'"),
        ("factual", "found none"),
        ("factual=0,logic=0", "sum to 0"),
        ("factual=1,factual=2", "twice"),
        ("factual=1,", "names ''"),
        ("none=1", "names 'none'"),
    ],
)
def test_shares_that_mean_nothing_are_the_users_mistake(text, message):
    with pytest.raises(UserError, match=message):
        parse_flaws(text)


@given(st.dictionaries(st.sampled_from(WRITTEN_FLAWS), st.floats(0.01, 100), min_size=1))
def test_shares_sum_to_one_whatever_is_given(shares):
    found = parse_flaws(",".join(f"{name}={share}" for name, share in shares.items()))

    assert sum(found.values()) == pytest.approx(1)
    assert set(found) == set(shares)


GIVEN_SHARES = st.dictionaries(st.sampled_from(WRITTEN_FLAWS), st.floats(0.001, 100), min_size=1).map(
    lambda given: tuple(parse_flaws(",".join(f"{name}={share}" for name, share in given.items())).items())
)


@given(GIVEN_SHARES, st.integers(0, 300), st.integers(0, 300))
def test_prompts_that_come_later_change_no_earlier_flaw(shares, count, more):
    assert deal_flaws(shares, count + more)[:count] == deal_flaws(shares, count)


@given(GIVEN_SHARES, st.integers(1, 300))
def test_no_flaw_is_ever_a_whole_prompt_away_from_its_share(shares, count):
    dealt = deal_flaws(shares, count)

    counts = dict.fromkeys(dict(shares), 0)
    for place, flaw in enumerate(dealt, start=1):
        counts[flaw] += 1
        assert all(abs(counts[name] - share * place) < 1 + 1e-9 for name, share in shares)


@pytest.mark.parametrize(
    ("text", "dealt"),
    [
        ("logic=1", ["logic"] * 5),
        ("factual=1,logic=1", ["factual", "logic", "factual", "logic", "factual"]),
        ("factual=3,logic=2", ["factual", "logic", "factual", "logic", "factual"]),
        ("factual=1,logic=4", ["logic", "logic", "logic", "factual", "logic"]),
    ],
)
def test_flaws_are_dealt_by_whose_turn_is_due_first(text, dealt):
    assert list(deal_flaws(tuple(parse_flaws(text).items()), 5)) == dealt


def test_no_prompts_are_dealt_no_flaws():
    assert deal_flaws(UNIFORM, 0) == ()


def test_a_share_too_small_for_a_number_is_never_dealt():
    assert set(deal_flaws((("factual", 1.0), ("logic", 0.0)), 50)) == {"factual"}


@pytest.mark.parametrize(
    ("flaw", "chosen", "rejected", "reason"),
    [
        ("factual", "", "text", "empty"),
        ("factual", "text", " \n\u200b", "empty"),
        ("factual", CHOSEN, CHOSEN, "near_identical"),
        ("factual", CHOSEN, CHOSEN.lower() + "!", "near_identical"),
        ("factual", CHOSEN, CHOSEN.replace("four", "nine"), None),
        ("logic", "It is 5 - 3.", "It is 5 + 3.", None),
        ("incomplete", "It is 5 - 3.", "It is 5 + 3.", "near_identical"),
        ("off_topic", "word " * 99, "word " * 98, "near_identical"),
        ("truncation", "word " * 99, "word " * 90, None),
        ("truncation", CHOSEN, CHOSEN[:-1], "near_identical"),
        ("broken_format", "- a\n- b\n- c", "- a - b - c", None),
        ("broken_format", "- a\n- b\n- c", "- a\n- b\n- c ", "near_identical"),
        ("broken_constraint", "RAIN IS WATER.", "Rain is water.", None),
        ("broken_constraint", "Rain.\n\nIt is wet.", "Rain. It is wet.", None),
        ("broken_constraint", "Rain is water.", "Rain is water. ", "near_identical"),
        ("truncation", CHOSEN, CHOSEN * 2, "length_ratio"),
        ("verbose_padding", CHOSEN, CHOSEN[:40], "length_ratio"),
        ("needless_refusal", CHOSEN, "No.", None),
        ("off_topic", CHOSEN, "猫", "length_ratio"),
    ],
)
def test_pairs_that_say_the_same_or_have_other_lengths_are_dropped(flaw, chosen, rejected, reason):
    assert unusable_reason(flaw, flaw, Written("", chosen, rejected, ""), fired=True) == reason


@pytest.mark.parametrize(
    ("named", "fired", "reason"),
    [
        ("off_topic", True, None),
        ("Off-Topic", True, None),
        ("off_topic", False, "flaw_not_found"),
        ("factual", True, "flaw_not_found"),
        ("", True, "flaw_not_found"),
    ],
)
def test_a_flaw_counts_if_its_check_fires_and_the_writer_names_it(named, fired, reason):
    written = Written("", CHOSEN, "Porcelain was first made in China, in kilns.", "")

    assert unusable_reason("off_topic", named, written, fired) == reason


def test_the_summary_of_nothing_is_a_row_for_each_flaw_that_was_wanted():
    empty = flaw_summary(make_frame(Pair, []), make_frame(Dropped, []), (("factual", 0.75), ("logic", 0.25)))

    assert empty.select("flaw", "asked", "check_rate", "quota").rows() == [
        ("factual", 0, None, 0.75),
        ("logic", 0, None, 0.25),
    ]
    assert flaw_summary(make_frame(Pair, []), make_frame(Dropped, []), ()).is_empty()


def test_the_summary_counts_what_was_asked_checked_found_and_written(make_pairs):
    pairs = make_pairs(flaw=["factual", "factual", "logic"])
    stage = "write_pairs"
    dropped = make_frame(
        Dropped,
        [
            dropped_row(stage, "failed_call", raw_row("factual", None, {"error": "timed out"}), "p"),
            dropped_row(stage, "length_ratio", raw_row("factual", True, {"chosen": "c" * 20_000}), "q"),
            dropped_row(stage, "flaw_not_found", raw_row("logic", False, {"chosen": '{"flaw": "factual"'}), "r"),
            dropped_row("read_prompts", "bad_prompt", "{}", None),
        ],
    )

    found = flaw_summary(pairs, dropped, (("factual", 0.5), ("logic", 0.5)))

    assert found.to_dicts() == [
        {
            "flaw": "factual",
            "severity": "critical",
            "asked": 4,
            "checked": 3,
            "fired": 3,
            "check_rate": 1.0,
            "written": 2,
            "quota": 0.5,
        },
        {
            "flaw": "logic",
            "severity": "critical",
            "asked": 2,
            "checked": 2,
            "fired": 1,
            "check_rate": 0.5,
            "written": 1,
            "quota": 0.5,
        },
    ]
