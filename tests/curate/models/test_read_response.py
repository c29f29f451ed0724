"""Reasoning beside a response and within it, and reasoning that the chat template opened."""

import pytest

from curate.models.reasoning import find_opening, is_cut_reasoning, read_response
from schemas.calls import Response


def test_a_response_without_reasoning_stays_as_it_came():
    assert read_response(Response("  Fine.\n", "stop")) == ("", "  Fine.\n")


def test_reasoning_beside_and_within_a_response_is_kept_in_that_order():
    response = Response("<think>Second.</think>\n\nFine.", "stop", "First.\n")

    assert read_response(response) == ("First.\n\nSecond.", "Fine.")


def test_blank_lines_after_reasoning_that_the_engine_took_out_are_no_part_of_the_response():
    assert read_response(Response("\n\nFine.", "stop", "First.")) == ("First.", "Fine.")


@pytest.mark.parametrize(("text", "finish"), [("", "length"), (" \n", "length")])
def test_a_limit_before_the_response_cuts_the_reasoning(text, finish):
    assert is_cut_reasoning(text, finish)


@pytest.mark.parametrize(("text", "finish"), [("", "stop"), ("", None), ("So", "length")])
def test_an_end_or_a_begun_response_cuts_no_reasoning(text, finish):
    assert not is_cut_reasoning(text, finish)


@pytest.mark.parametrize(
    ("prompt", "opening"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<think>", "<think>"),
        ("<\uff5cAssistant\uff5c><think>\n", "<think>\n"),
        ("[/INST][THINK]", "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", ""),
        ("<|im_start|>assistant\n", ""),
        ("", ""),
    ],
)
def test_the_mark_that_a_template_ends_in_opens_the_reasoning(prompt, opening):
    assert find_opening(prompt) == opening
