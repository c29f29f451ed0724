import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.models.finish_reasons import NAMES, finish_reason


@pytest.mark.parametrize(("name", "other"), [(name, other) for name, others in NAMES.items() for other in others])
def test_a_name_means_the_same_however_it_is_written(name, other):
    camel = other.split("_")[0] + "".join(word.title() for word in other.split("_")[1:])

    written = [other, other.upper(), other.replace("_", "-"), camel, f"FINISH_REASON_{other.upper()}"]

    assert {finish_reason(each) for each in written} == {name}


@given(st.none() | st.booleans() | st.integers() | st.lists(st.text()) | st.text())
def test_any_finish_reason_can_be_saved(found):
    told = finish_reason(found)

    assert told is None or told.encode()
