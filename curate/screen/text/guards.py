"""Guards: tests of single responses that are unusable whatever their score."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.screen.arrays import Mask
from curate.screen.text.languages import are_english, foreign_shares
from curate.screen.text.ngrams import hash_words
from curate.screen.text.refusals import find_refusals
from curate.screen.text.structure import CODE
from curate.screen.text.truncation import find_endings
from curate.screen.text.word_runs import RUN, Wording, read_signs, read_wording, repeated_shares, sum_by_text

TEMPLATE_TOKEN = (
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>)\s*(?:system|user|assistant|model|tool)\b|"
    r"<\|[^<>|\n]{1,40}\|>|</?s>|\[/?INST\]|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>"
)
"""Turn and text markers of the chat templates in use, with whose turn it is: ChatML and Llama 3, Llama 2, Gemma."""

INVISIBLE = r"[\s\p{Cc}\p{Cf}\p{Z}]"
"""White space, control and zero-width characters."""

LEAKED = (
    r"<\|[a-zA-Z0-9_\- ]{1,40}\|>|^\s*<s>|</s>\s*$|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|"
    r"\n\n(?:Human|H): |(?:^|\n)#{2,3} ?(?:Human|Assistant|Instruction|Response|User):"
)
"""Template tokens and turn markers where none belong; `<s>` within a text is HTML for struck out."""
COPIED_WORDS = 8
SYSTEM_WORDS = 40

FEWEST_RUNS = 12
"""Runs of words of a text that can repeat itself: a chorus of a few words is none."""
LONG_WORD = 20
"""Characters to a word from which words do not tell repetition."""
SIGN_RUN = 6
FEWEST_SIGNS = 40
MOST_SIGNS = 10_000

AS_LATIN = r"\u0080-\u00bf" + "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
MOJIBAKE = (
    rf"[ÃÂ][{AS_LATIN}]|â€[{AS_LATIN}]|â\x80[{AS_LATIN}]|ð[Ÿ\u009f][{AS_LATIN}]|"
    rf"(?:[ÎÏÐÑØÙ\u00d7][{AS_LATIN}]){{2}}|(?:[à-ï][{AS_LATIN}]{{2}}){{2}}"
)
"""UTF-8 that was read as Latin-1 or Windows-1252: the bytes of one sign each as a sign."""
JUNK = r"[\x00-\x08\x0b\x0e-\x1f\u0080-\u0084\u0086-\u009f\ufffd\p{Co}\x{fffe}\x{ffff}]"
"""Signs that text does not hold: control characters, the replacement character, private use."""
BROKEN_CHARS = 1000
"""At least one broken place in so many characters makes a text broken: a stray sign in a long one does not."""

FEW_WORDS = 4
UNSPACED_LETTER = r"[\p{L}&&[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]]"
"""A letter of a script in which blanks do not tell how many words there are."""

Shares = NDArray[np.float32]


@dataclass(frozen=True)
class Prompts:
    """Conversations as the guards see them, a row each."""

    text: pl.Series
    """All that was said."""
    last: Wording
    """The last turn."""
    system: pl.Series
    """The system message, null where there is none."""


def hash_prompts(messages: pl.Series) -> Prompts:
    """`messages` as the guards see them."""
    content = pl.element().struct.field("content")
    first = pl.col("messages").list.first().struct
    columns = pl.DataFrame({"messages": messages}).select(
        text=pl.col("messages").list.eval(content).list.join("\n\n"),
        last=pl.col("messages").list.last().struct.field("content"),
        system=pl.when(first.field("role") == "system").then(first.field("content")),
    )
    return Prompts(columns["text"], read_wording(columns["last"]), columns["system"])


def response_features(side: str, prompts: Prompts, responses: Wording, finish: pl.Series) -> pl.DataFrame:
    """The columns of `Measured` about one side, a row each response to the prompt of the same row.

    `finish` is why the model stopped, null where that is unknown.
    """
    texts = responses.texts
    features = pl.DataFrame({"text": texts, "prompt": prompts.text, "finish": finish.cast(pl.String)})
    return features.select(
        is_empty("text").alias(f"{side}_empty"),
        (pl.col("text").str.count_matches(r"[^\w\s]+") + pl.Series(responses.words.counts))
        .cast(pl.UInt32)
        .alias(f"{side}_tokens"),
        pl.Series(f"{side}_is_short_answer", are_short_answers(prompts.text, responses)),
        find_endings(texts, features["finish"]).alias(f"{side}_cut"),
        are_broken(prompts.text, texts).alias(f"{side}_broken"),
        are_leaking(prompts, responses).alias(f"{side}_leaked"),
        pl.Series(f"{side}_echo_share", echo_shares(prompts.last, responses)),
        pl.Series(f"{side}_repetition_share", repetition_shares(responses)),
        foreign_shares(prompts.text, texts, are_english(prompts.last.words), are_english(responses.words)).alias(
            f"{side}_foreign_share"
        ),
        find_refusals(texts).alias(f"{side}_refuses"),
    )


def is_empty(column: str) -> pl.Expr:
    """True for a response of nothing but white space, invisible characters and template tokens."""
    return pl.col(column).str.contains(rf"\A(?:{TEMPLATE_TOKEN}|{INVISIBLE})*\z")


def are_short_answers(prompts: pl.Series, responses: Wording) -> pl.Series:
    """True for a response of at most `FEW_WORDS` words that are all numbers or words of the prompt.

    Such a short response names what it was asked to choose, find or count, and is whole. So is a word in a script
    without blanks, of which nobody can say that a longer response was cut short.
    """
    rows = np.flatnonzero((responses.words.counts > 0) & (responses.words.counts <= FEW_WORDS))
    short = pl.DataFrame(
        {
            "row": rows,
            "text": responses.texts.gather(rows),
            "word": responses.texts.gather(rows).str.to_lowercase().str.extract_all(r"\w+"),
            "prompt": prompts.gather(rows).str.to_lowercase().str.extract_all(r"\w+"),
        },
        schema_overrides={"word": pl.List(pl.String), "prompt": pl.List(pl.String)},
    )
    is_number = pl.col("word").list.eval(pl.element().str.contains(r"^\d+$")).list.all()
    is_inside = pl.col("word").list.set_difference("prompt").list.len() == 0
    is_unspaced = pl.col("text").str.contains(UNSPACED_LETTER)
    named = short.filter(is_number | is_inside | is_unspaced)["row"].to_numpy()
    return pl.Series(np.isin(np.arange(len(responses.texts)), named))


def echo_shares(prompts: Wording, responses: Wording) -> Shares:
    """(texts,) share of the runs of words that prompt and response have in common, of the side that has more.

    A copied sentence of a long prompt is an answer; the whole prompt said again is none.
    """
    most = np.maximum(np.maximum(prompts.runs.counts, responses.runs.counts), 1)
    shares = responses.runs.shared(prompts.runs) / most
    # A prompt too short for a run: the same words again, but not the same greeting.
    prompt, response = prompts.words, responses.words
    same = (
        (prompt.counts == RUN - 1)
        & (response.counts == RUN - 1)
        & (sum_by_text(prompt, prompt.hashes) == sum_by_text(response, response.hashes))
    )
    return np.where(same, 1, shares).astype(np.float32)


def repetition_shares(responses: Wording) -> Shares:
    """(texts,) share of the runs of words that repeat an earlier one, 0 for very short texts.

    Where words are few and long, as in `hahahahaha` or a row of emoji, it is that of the runs of signs.
    """
    totals = np.maximum(responses.words.counts - (RUN - 1), 0)
    shares = np.where(totals < FEWEST_RUNS, 0, repeated_shares(totals, responses.runs.counts))
    chars = responses.texts.str.len_chars().fill_null(0).to_numpy()
    unworded = np.flatnonzero((chars >= FEWEST_SIGNS) & (chars > LONG_WORD * responses.words.counts))
    of_signs = read_signs(responses.texts.gather(unworded).str.slice(0, MOST_SIGNS)).ngrams(SIGN_RUN)
    shares[unworded] = np.maximum(shares[unworded], repeated_shares(of_signs.counts, of_signs.distinct().counts))
    return shares.astype(np.float32)


def are_broken(prompts: pl.Series, responses: pl.Series) -> pl.Series:
    """True for a response that went through the wrong character set; what its prompt holds as well may be quoted."""
    broken, known = (texts.str.count_matches(f"{MOJIBAKE}|{JUNK}").cast(pl.Int64) for texts in (responses, prompts))
    return ((broken > known) & (broken * BROKEN_CHARS >= responses.str.len_chars())).fill_null(False)


def are_leaking(prompts: Prompts, responses: Wording) -> pl.Series:
    """True for a response with template tokens that its prompt does not hold, or with its system message in it."""
    texts = pl.DataFrame({"prompt": prompts.text, "text": responses.texts}).with_row_index("row")
    tokens = (
        texts.filter(pl.col("text").str.contains(LEAKED))
        .with_columns(token=pl.col("text").str.replace_all(CODE, " ").str.extract_all(LEAKED))
        .explode("token", empty_as_null=False)
        .filter(~pl.col("prompt").str.contains(pl.col("token").str.strip_chars(), literal=True))
    )
    leaks = np.isin(np.arange(texts.height), tokens["row"].to_numpy())
    rows = np.flatnonzero(prompts.system.is_not_null().to_numpy())
    if len(rows):
        leaks[rows] |= copies_system(prompts.system.gather(rows), responses.texts.gather(rows))
    return pl.Series(leaks)


def copies_system(systems: pl.Series, texts: pl.Series) -> Mask:
    """True where the beginning of a system message stands in the text: there it says what the model is to be."""
    begin = systems.str.extract(rf"^\W*(\w+(?:\W+\w+){{0,{SYSTEM_WORDS - 1}}})", 1)
    copied, runs = (hash_words(some).ngrams(COPIED_WORDS).distinct() for some in (begin, texts))
    return copied.shared(runs) > 0
