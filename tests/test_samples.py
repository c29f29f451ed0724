"""The committed sample data in `data/samples` keeps the rules its README states."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
KINDS = (
    "how_to",
    "fact",
    "arithmetic",
    "code",
    "rewriting",
    "extraction",
    "advice",
    "dialogue",
)
FLAWS = (
    "factual",
    "logic",
    "truncation",
    "off_topic",
    "broken_constraint",
    "broken_format",
    "repetition",
    "needless_refusal",
    "verbose_padding",
    "incoherent",
    "wrong_language",
    "bad_code",
)
ANSWERED = {"fact", "arithmetic", "extraction"}
SENTENCE_ENDS = (".", "!", "?", "`")


def load(name: str) -> list[dict]:
    lines = (SAMPLES / name).read_text(encoding="utf-8").split("\n")
    assert lines.pop() == "", "the last line ends with a newline"
    return [json.loads(line) for line in lines]


PROMPTS = load("prompts.jsonl")
PAIRS = load("pairs.jsonl")
EVAL_PROMPTS = load("eval_prompts.jsonl")
ALL = PROMPTS + PAIRS + EVAL_PROMPTS


def messages(row: dict) -> list[dict]:
    """The row's prompt as messages: a string is one user turn."""
    if isinstance(row["prompt"], str):
        return [{"role": "user", "content": row["prompt"]}]
    return row["prompt"]


def user_turns(row: dict) -> list[str]:
    return [message["content"] for message in messages(row) if message["role"] == "user"]


def prompt_text(row: dict) -> str:
    return "\n".join(message["content"] for message in messages(row))


def prompt_group(row: dict) -> str:
    return re.sub(r"[\W_]+", " ", user_turns(row)[0].lower()).strip()


def normalized(text: str) -> str:
    return " ".join(text.lower().split())


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def shared_ngrams(texts: Iterable[tuple[str, str]], n: int) -> list[tuple[str, str, str]]:
    """(first id, second id, words) for each n-gram that occurs under two ids."""
    first_id: dict[tuple[str, ...], str] = {}
    shared = []
    for row_id, text in texts:
        for gram in ngrams(text, n):
            if first_id.setdefault(gram, row_id) != row_id:
                shared.append((first_id[gram], row_id, " ".join(gram)))
    return shared


def most_repeats(text: str, n: int) -> int:
    return max(Counter(ngrams(text, n)).values(), default=0)


def longer_chosen_share(pairs: list[dict]) -> float:
    longer = sum(len(pair["chosen"]) > len(pair["rejected"]) for pair in pairs)
    return longer / len(pairs)


def test_prompts_are_twelve_of_each_kind():
    assert Counter(row["kind"] for row in PROMPTS) == dict.fromkeys(KINDS, 12)


def test_pairs_are_five_of_each_flaw():
    assert Counter(row["flaw"] for row in PAIRS) == dict.fromkeys(FLAWS, 5)


def test_eval_prompts_are_five_of_each_kind():
    assert Counter(row["kind"] for row in EVAL_PROMPTS) == dict.fromkeys(KINDS, 5)


def test_ids_are_unique_over_all_files():
    assert len({row["id"] for row in ALL}) == len(ALL)


@pytest.mark.parametrize("row", PROMPTS + EVAL_PROMPTS, ids=lambda row: row["id"])
def test_prompt_rows_have_an_answer_exactly_where_one_can_be_checked(row):
    expected = ["id", "kind", "prompt"] + ["answer"] * (row["kind"] in ANSWERED)

    assert list(row) == expected
    assert row.get("answer", "unused").strip()


@pytest.mark.parametrize("row", PROMPTS + EVAL_PROMPTS, ids=lambda row: row["id"])
def test_only_dialogues_have_two_user_turns(row):
    assert (len(user_turns(row)) >= 2) == (row["kind"] == "dialogue")


@pytest.mark.parametrize("row", ALL, ids=lambda row: row["id"])
def test_messages_alternate_and_end_with_a_user_turn(row):
    roles = [message["role"] for message in messages(row)]
    turns = roles[1:] if roles[0] == "system" else roles

    assert all(list(message) == ["role", "content"] for message in messages(row))
    assert all(message["content"].strip() for message in messages(row))
    assert len(turns) % 2 == 1
    assert turns == ["user", "assistant"] * (len(turns) // 2) + ["user"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["id"])
def test_pairs_hold_two_different_responses(pair):
    assert list(pair) == ["id", "flaw", "prompt", "chosen", "rejected"]
    assert pair["chosen"].strip()
    assert pair["rejected"].strip()
    assert normalized(pair["chosen"]) != normalized(pair["rejected"])


def test_some_pairs_are_multi_turn_and_some_have_a_system_message():
    assert sum(len(user_turns(pair)) >= 2 for pair in PAIRS) >= 8
    assert sum(messages(pair)[0]["role"] == "system" for pair in PAIRS) >= 3


def test_prompt_groups_are_unique_over_all_files():
    groups = Counter(prompt_group(row) for row in ALL)

    assert [group for group, count in groups.items() if count > 1] == []


def test_no_two_prompts_share_six_words_in_a_row():
    assert shared_ngrams(((row["id"], prompt_text(row)) for row in ALL), n=6) == []


def test_no_two_chosen_responses_share_six_words_in_a_row():
    assert shared_ngrams(((pair["id"], pair["chosen"]) for pair in PAIRS), n=6) == []


def test_length_does_not_give_the_chosen_response_away():
    assert 0.45 <= longer_chosen_share(PAIRS) <= 0.55


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["id"])
def test_chosen_responses_have_20_to_120_words(pair):
    assert 20 <= len(pair["chosen"].split()) <= 120


def test_only_the_rejected_response_of_a_repetition_pair_loops():
    for pair in (pair for pair in PAIRS if pair["flaw"] == "repetition"):
        assert most_repeats(pair["rejected"], n=4) >= 3, pair["id"]
        assert most_repeats(pair["chosen"], n=4) < 3, pair["id"]


def test_only_the_rejected_response_of_a_truncation_pair_stops_mid_sentence():
    for pair in (pair for pair in PAIRS if pair["flaw"] == "truncation"):
        assert not pair["rejected"].rstrip().endswith(SENTENCE_ENDS), pair["id"]
        assert pair["chosen"].endswith(SENTENCE_ENDS), pair["id"]
