import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.text.structure import broken_form, find_broken, is_json, list_forms


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("a) one b) two :)", set()),
        ("2 ** 3 and 2**3", set()),
        ("see [this](https://en.wikipedia.org/wiki/A_(b)) page", set()),
        ("`**` and ``", set()),
        (r"$\nabla f \neq 0$", set()),
        ("```\nprint(1)", {"fence"}),
        ("this is **bold", {"bold"}),
        ("see [this](https://example.org", {"link", "bracket"}),
        ("<b>bold", {"tag"}),
        ("<p>one<br>two</p>", set()),
        ("<p>one", set()),
        ("<p>one</p><p>two", {"tag"}),
        ("one</p>", {"tag"}),
        ("all in [0, 1) and (-1, \\infty] but (a, b]", set()),
        ("[0.5, 2) and (3", {"bracket"}),
        ("[see this, or that)", {"bracket"}),
        ("f(x", {"bracket"}),
        (r"one\ntwo", {"escape"}),
        ("| a | b |\n| --- | --- |\n| 1 |", {"table"}),
        ("| a | b |\n| 1 | 2 |", {"table"}),
    ],
)
def test_what_is_malformed_is_named(text, found):
    assert find_broken(text) == found


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", '```json\n{"a": 1}\n```', "Here:\n```json\n[1]\n```\nDone."])
def test_json_may_stand_in_a_code_block(text):
    assert is_json(text)


@pytest.mark.parametrize("text", ["", "1", '"a"', '{"a": 1', "{'a': 1}", "{" * 10_000, "see {x}"])
def test_other_text_is_no_json(text):
    assert not is_json(text)


def test_a_list_run_together_has_lost_its_form_only_with_the_same_content():
    chosen = "- red apples\n- green pears\n- yellow plums"

    assert list_forms(chosen) == {"list", "lines"}
    assert broken_form(chosen, "red apples green pears yellow plums")
    assert not broken_form(chosen, "Eat whatever fruit is in season.")


def test_json_that_no_longer_parses_is_broken():
    assert broken_form('{"a": "b"}', '{"a": "b",}')
    assert not broken_form('{"a": "b"}', '{"a": "c"}')


def test_a_chosen_response_that_is_as_malformed_leaves_nothing_to_find():
    assert not broken_form("this is **bold", "that is **bold")


@given(st.text(max_size=200))
def test_identical_texts_differ_in_no_form(text):
    assert not broken_form(text, text)
