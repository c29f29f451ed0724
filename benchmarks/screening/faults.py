"""Single faults that are planted, each in several ways, so that no figure is that of one trick."""

from screening import contaminated, copies, response_faults
from screening.world import Plant

FAULTS: dict[str, dict[str, Plant]] = {
    "empty": {
        "nothing": response_faults.empty(""),
        "white_space": response_faults.empty(" \n\t \n"),
        "no_break_spaces": response_faults.empty("\u00a0\u3000\u00a0"),
        "invisible": response_faults.empty("\u200b\ufeff\u2060"),
        "end_token": response_faults.empty("<|im_end|>"),
        "template": response_faults.empty("<|im_start|>assistant\n<|im_end|>"),
        "end_of_text": response_faults.empty("<|endoftext|>\n"),
        "sentence_token": response_faults.empty("</s>"),
        "instruction_tokens": response_faults.empty("[INST] [/INST]"),
        "both_sides": response_faults.empty_both,
    },
    "truncated": {
        "in_word": response_faults.cut_in_word,
        "in_sentence": response_faults.cut_in_sentence,
        "in_list": response_faults.cut_in_list,
        "in_code": response_faults.cut_in_code,
    },
    "lexical_duplicate": {
        "respaced": copies.copy_respaced,
        "repunctuated": copies.copy_repunctuated,
        "slips": copies.copy_with_slips,
        "courtesy": copies.copy_with_courtesy,
        "closing": copies.copy_with_closing,
        "shortened": copies.copy_shortened,
        "another_rejected": copies.copy_against_another,
    },
    "wrong_language": {
        "latin_script": response_faults.in_latin_script,
        "other_script": response_faults.in_other_script,
    },
    "contaminated": {
        "whole": contaminated.evaluation_whole,
        "respelled": contaminated.evaluation_respelled,
        "surrounded": contaminated.evaluation_surrounded,
        "in_part": contaminated.evaluation_in_part,
        "edited": contaminated.evaluation_edited,
        "earlier_turn": contaminated.evaluation_in_earlier_turn,
        "many_times": contaminated.evaluation_many_times,
        "published": contaminated.evaluation_published,
    },
    "repetition": {
        "sentence": response_faults.sentence_again,
        "phrase": response_faults.phrase_again,
        "word": response_faults.word_again,
        "items": response_faults.items_again,
        "three_times": response_faults.all_again(3),
        "twice": response_faults.all_again(2),
    },
    "off_topic": {
        "same_source": response_faults.of_another_row(True),
        "other_source": response_faults.of_another_row(False),
        "both_responses": response_faults.both_of_another_row,
    },
}
"""Fault -> way of planting it -> function; `twice` is how one of the real answers repeats itself."""

FOUND_BY: dict[str, tuple[str, ...]] = {
    **{fault: (fault,) for fault in FAULTS},
    "lexical_duplicate": (
        "lexical_duplicate",
        "semantic_duplicate_prompt",
        "semantic_duplicate_pair",
        "duplicate_pair",
    ),
}
"""Fault -> the rules that name it."""
