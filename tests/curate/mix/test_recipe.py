import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.mix.recipe import Source, parse_source
from schemas.errors import UserError


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("sft", Source("sft", 1.0)),
        ("sft:0.25", Source("sft", 0.25)),
        ("sft:25%", Source("sft", 0.25)),
        ("sft: 25 %", Source("sft", 0.25)),
        ("sft:100%", Source("sft", 1.0)),
        ("sft:12.5%", Source("sft", 0.125)),
        ("sft:1e1%", Source("sft", 0.1)),
    ],
)
def test_a_share_is_a_number_or_a_percentage(text, source):
    assert parse_source(text) == source


@pytest.mark.parametrize("text", ["sft:", "sft:%", "sft:x%", "sft:25%%", "sft:nan%", "sft:inf%", "sft:25 percent"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(UserError, match=r"is not a number; write BUILD:SHARE, for example sft:0.5 or sft:50%"):
        parse_source(text)


@given(st.integers(1, 1000))
def test_tenths_of_a_percent_are_the_very_number_of_the_share(tenths):
    percent, share = f"{tenths // 10}.{tenths % 10}%", f"{tenths // 1000}.{tenths % 1000:03}"

    # A mix made with one is the mix made with the other.
    assert parse_source(f"sft:{percent}") == parse_source(f"sft:{share}")
