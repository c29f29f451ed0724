"""What counts as the reasoning of a text, by the marks of the engines in use, and what never does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.models.reasoning import MARK, TOKENS, split_reasoning

ORDINARY = [
    "",
    " \n",
    "The moon.",
    "Write <think>your steps</think> before the response.",
    "Write <think> your steps </think>\nbefore the response.",
    "Models reason between <think> and </think> tags.",
    "The tag that ends it is </think>.",
    "The reasoning stops at </think> and the response begins.",
    "`</think>` ends the reasoning.",
    "R1 answers like this:\n\n<think>\nThe user says hi.\n</think>\n\nHello!",
    "```\n<think>\nThe user says hi.\n</think>\n```\nThe block above is reasoning.",
    "Use this:\n```python\ntext.split('</think>')\ntail</think>\n```\nIt works.",
    "analysis of variance compares means.",
    "analysisResult = fit(data)",
    "Harmony writes `<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b`.",
    "He said: Here is my thought process: first, I look.",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_a_response_that_speaks_of_the_marks_is_left_as_it_is(text):
    assert split_reasoning(text) == ("", text)


@pytest.mark.parametrize("response", [text.strip() for text in ORDINARY])
def test_behind_its_reasoning_such_a_response_is_whole_as_well(response):
    assert split_reasoning(f"<think>\nHm.\n</think>\n\n{response}") == ("Hm.", response)


@pytest.mark.parametrize(
    "text",
    [
        "<think>Hm.</think>The moon.",
        "\n<think>\nHm.\n</think>\n\nThe moon.",
        "\ufeff<THINK>Hm.</THINK> The moon.",
        "Hm.</think>The moon.",
        "Hm.\n</think>\n\nThe moon.",
        "<thinking>Hm.</thinking>\nThe moon.",
        "<thought>\nHm.\n</thought>\nThe moon.",
        "<reasoning>Hm.</reasoning> The moon.",
        "<seed:think>Hm.</seed:think>The moon.",
        "<longcat_think>Hm.</longcat_think>The moon.",
        "Hm.</ifm|think_fast>The moon.",
        "[THINK]Hm.[/THINK]The moon.",
        "◁think▷Hm.◁/think▷The moon.",
        "<|channel>thought\nHm.\n<channel|>The moon.",
        "<|inner_prefix|>Hm.<|inner_suffix|>The moon.",
        "Hm.<|think:end|>The moon.",
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>The moon.<|END_RESPONSE|>",
        "<|begin_of_thought|>Hm.<|end_of_thought|>\n\n<|begin_of_solution|>The moon.<|end_of_solution|>",
        "<think>Hm.</think>\n<answer>\nThe moon.\n</answer>",
        "<think>\nHm.\n</think>\n<response>\nThe moon.\n</response>\n",
        "Here is my thought process: Hm. Here is my response: The moon.",
        "Here's my thought process:\nHm.\n\nHere's my response:\nThe moon.",
        "Here are my reasoning steps:\nHm.\n[BEGIN FINAL RESPONSE]\nThe moon.[END FINAL RESPONSE]",
        "<|think|>Hm.<|end|><|begin|>assistant<|content|>The moon.",
        '<details type="reasoning" done="true">\nHm.\n</details>\nThe moon.',
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>The moon.<|return|>",
        "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
        "<|start|>assistant<|channel|>final <|constrain|>json<|message|>The moon.",
        "Hm.<|end|><|start|>assistant<|channel|>final<|message|>The moon.",
        "analysisHm.assistantfinalThe moon.",
    ],
)
def test_each_engine_s_reasoning_is_parted_from_its_response(text):
    reasoning, response = split_reasoning(text)

    assert (reasoning, response.rstrip()) == ("Hm.", "The moon.")


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nI look at the moon, then",
        "<think>Is `</think>` the tag? I look at",
        "[THINK]I look",
        "<|START_THINKING|>I look",
        "Here is my thought process: I look",
        "Here are my reasoning steps:\nI look",
        "<|channel|>analysis<|message|>I look",
        "analysisWe need to look",
        "<think>Done.</think>\n<think>Not done",
        "I look.</think>",
    ],
)
def test_a_text_that_was_cut_within_its_reasoning_has_no_response(text):
    reasoning, response = split_reasoning(text)

    assert response == ""
    assert reasoning


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think></think>A", ""),
        ("<think>\n\n</think>\n\nA", ""),
        ("</think>\n\nA", ""),
        ("<|start|>assistant<|channel|>final<|message|>A", ""),
        ("<think>a</think>\n<think>b</think>\nA", "a</think>\n<think>b"),
        ("<think>a</think>\nand b\n</think>\nA", "a</think>\nand b"),
        ("<think>It asks for `</think>`. Fine.</think>A", "It asks for `</think>`. Fine."),
        ("<think>Such as\n```\n</think>\n```\nFine.</think>A", "Such as\n```\n</think>\n```\nFine."),
        ("<think>Such as\n```\ncode\n</think>\nA", "Such as\n```\ncode"),
        ("It asks about <think> tags. Fine.</think>A", "It asks about <think> tags. Fine."),
    ],
)
def test_all_that_stands_before_the_response_is_reasoning(text, reasoning):
    assert split_reasoning(text) == (reasoning, "A")


PARTS = [
    "<think>",
    "</think>",
    "[/THINK]",
    "```\n",
    "`",
    "\n",
    " ",
    "The moon. ",
    "{",
    "<|end|>",
    "<|channel|>",
    "final",
]


@given(st.lists(st.sampled_from([*PARTS, *TOKENS])).map("".join))
def test_no_text_is_made_up_and_one_without_a_mark_is_left_alone(text):
    reasoning, response = split_reasoning(text)

    assert response in text
    if not MARK.search(text) and "<|" not in text:
        assert (reasoning, response) == ("", text)
