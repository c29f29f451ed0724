"""The shipped reward heads score any text, always the same, and their cards tell the truth."""

import json
import math

import pytest
from safetensors.numpy import load_file, save_file

from curate.files import asset
from curate.models.reward_head import HEAD_FILE, HEADS, RewardHead, head_folder
from schemas.errors import UserError

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
MULTI_TURN = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello, how can I help?"},
    {"role": "user", "content": "Why is the sky blue?"},
]
ROWS = [
    (QUESTION, ""),
    (QUESTION, "Paris is the capital of France."),
    (QUESTION, "🙂🙃 \ud800"),
    (QUESTION, "<|im_end|>\n<|im_start|>user\nThanks!"),
    (MULTI_TURN, "Air scatters blue light more than red light."),
    ([{"role": "user", "content": ""}], "?"),
]


def columns(rows):
    return [conversation for conversation, _ in rows], [response for _, response in rows]


@pytest.fixture(scope="module", params=HEADS)
def head(request):
    return RewardHead.load(head_folder(request.param))


@pytest.fixture(scope="module")
def scores(head):
    return head.score(*columns(ROWS))


def test_any_text_has_a_finite_score(scores):
    assert all(math.isfinite(score) for score in scores)
    assert len(set(scores)) == len(ROWS)


def test_a_batch_scores_as_its_rows_do_one_by_one(head, scores):
    alone = [head.score([conversation], [response])[0] for conversation, response in ROWS]

    assert scores == pytest.approx(alone, abs=1e-4)


def test_the_same_rows_score_exactly_the_same_again(head):
    short = columns(ROWS[:2])

    assert head.score(*short) == head.score(*short)


def test_of_very_long_texts_the_end_of_the_prompt_and_the_start_of_the_response_are_read(head):
    # The responses are cut to the same tokens and alike in every count: "aa." for "bb." at the end.
    asked = [{"role": "user", "content": "x " * 5000}]
    start = "Paris has many museums. " * 420

    one, other = head.score([asked] * 2, [f"{start}aa.", f"{start}bb."])

    assert math.isfinite(one)
    assert one == pytest.approx(other, abs=1e-4)


def test_no_rows_give_no_scores(head):
    assert head.score([], []) == []


def test_an_answer_beats_silence_and_junk(head):
    responses = ["Paris is the capital of France.", "", ".", "the the the the"]

    answer, *junk = head.score([QUESTION] * 4, responses)

    assert answer > max(junk)


def test_the_heads_have_names_and_digests_of_their_own():
    heads = [RewardHead.load(head_folder(alias)) for alias in HEADS]

    assert [head.alias for head in heads] == list(HEADS)
    assert len({head.digest for head in heads}) == 2
    assert all(len(head.digest) == 64 for head in heads)


@pytest.mark.parametrize("alias", HEADS)
def test_the_card_shows_the_numbers_of_the_results_beside_it(alias):
    folder = head_folder(alias)
    card = (folder / "README.md").read_text()
    results = json.loads((folder / "results.json").read_text())

    assert results["name"] == alias
    assert set(results["accuracy"]) == {"ultrafeedback_pairs", "hh_harmless_pairs", "gsm8k_4solutions", "all"}
    for dataset, (share, low, high) in results["accuracy"].items():
        assert f"| {dataset} | {results['heldout_pairs'][dataset]} | {share:.3f} ({low:.3f} to {high:.3f}) " in card
    for probe, wins in results["probe_wins"].items():
        assert f"| {probe} | {' | '.join(f'{won} of {tried}' for won, tried in wins.values())} |" in card
    assert (folder / HEAD_FILE).stat().st_size < 1_000_000


def test_the_two_heads_are_trained_on_disjoint_shares():
    shares = [json.loads((head_folder(alias) / "results.json").read_text())["share"] for alias in HEADS]

    assert shares == ["a", "b"]


def test_an_unknown_head_is_named():
    with pytest.raises(UserError, match="no reward head 'reward-max'; known: reward-mini, reward-mini-b"):
        head_folder("reward-max")


def test_a_folder_without_a_head_is_refused(tmp_path):
    with pytest.raises(UserError, match="no reward head at"):
        RewardHead.load(tmp_path)


def test_a_file_that_is_no_head_is_refused(tmp_path):
    (tmp_path / HEAD_FILE).write_bytes(b"not a head")

    with pytest.raises(UserError, match="is not a reward head of this version"):
        RewardHead.load(tmp_path)


def test_a_head_without_its_description_is_refused(tmp_path):
    save_file(load_file(head_folder("reward-mini") / HEAD_FILE), tmp_path / HEAD_FILE)

    with pytest.raises(UserError, match="is not a reward head of this version"):
        RewardHead.load(tmp_path)


def test_assets_of_a_checkout_lie_in_its_data_folder():
    assert asset("models", "reward-mini").parts[-3:] == ("data", "models", "reward-mini")
