from hypothesis import given
from hypothesis import strategies as st

from curate.models.system_message import has_system, without_system

roles = st.sampled_from(["system", "user", "assistant"])
turns = st.lists(st.builds(dict, role=roles, content=st.text(alphabet="ab ", min_size=1)), min_size=1)


def turn(role, text):
    return {"role": role, "content": text}


def test_a_conversation_without_a_user_turn_gets_one():
    assert without_system([turn("system", "a")]) == [turn("user", "a")]
    assert without_system([turn("system", "a"), turn("assistant", "b")]) == [turn("user", "a"), turn("assistant", "b")]


def test_all_system_messages_open_the_first_user_turn_in_their_order():
    messages = [turn("system", "a"), turn("assistant", "b"), turn("user", "c"), turn("system", "d"), turn("user", "e")]

    assert without_system(messages) == [turn("assistant", "b"), turn("user", "a\n\nd\n\nc"), turn("user", "e")]


@given(turns)
def test_every_text_stays_and_nothing_but_the_first_user_turn_changes(messages):
    before = [dict(message) for message in messages]

    moved = without_system(messages) if has_system(messages) else messages

    assert messages == before
    assert not has_system(moved)
    assert sorted("".join(m["content"] for m in moved).replace("\n\n", "")) == sorted(
        "".join(m["content"] for m in messages)
    )
    others = [message for message in messages if message["role"] != "system"]
    assert sum(a != b for a, b in zip(others, moved[-len(others) :], strict=True)) <= 1 if others else True
