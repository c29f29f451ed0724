"""Prepare texts for display to reviewers: nothing invisible, very long ones shortened."""

from collections.abc import Callable, Mapping, Sequence

LONGEST = 20_000
"""Characters of one text that are shown, the note on what is left out among them; Argilla takes no longer message."""
MOST_MESSAGES = 500
"""Of one conversation, the note on those left out among them."""
LONGEST_ROLE = 20
ROOM = 100
"""For the note."""


def display_text(text: str, empty: str = "(empty response)", longest: int = LONGEST) -> str:
    """`text`, shortened in the middle where it is longer than `longest`; `empty` where there is nothing to see."""
    if not text.strip():
        return empty
    # no database keeps this character
    text = text.replace("\0", "\N{SYMBOL FOR NULL}")
    if len(text) <= longest:
        return text
    half = (longest - ROOM) // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n\n[... {left_out:,} characters are left out here ...]\n\n{text[-half:]}"


def display_messages(
    messages: Sequence[Mapping[str, str]], show: Callable[[str, str], str] = display_text
) -> list[dict[str, str]]:
    """A conversation with texts as `display_text` gives them, shortened in the middle beyond MOST_MESSAGES."""
    kept = list(messages)
    if len(kept) > MOST_MESSAGES:
        half = (MOST_MESSAGES - 1) // 2
        note = f"[... {len(kept) - 2 * half:,} messages are left out here ...]"
        kept = [*kept[:half], {"role": "system", "content": note}, *kept[-half:]]
    return [
        {"role": message["role"][:LONGEST_ROLE] or "?", "content": show(message["content"], "(empty)")}
        for message in kept
    ]
