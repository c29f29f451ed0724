"""Measure features of pairs from their texts and scores, whatever the thresholds."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from curate.screen.pii import personal_kinds
from curate.screen.text.guards import Shares, hash_prompts, response_features
from curate.screen.text.ngrams import HashedWords, Hashes, normalize_texts
from curate.screen.text.word_runs import Wording, WordSet, read_wording, sum_by_text
from curate.store.store import Part
from schemas.tables import Dropped, Measured

FILLER = (
    "a an the just very really quite also so well that please actually basically simply certainly sure indeed rather"
)
"""Words that can come or go without a change of what is said."""
FILLERS = WordSet(FILLER.split())
FILLER_WORD = rf"\b(?:{FILLER.replace(' ', '|')})\b"
END_MARKS = r"(\p{L})[.,;:!?…]+|(\p{N})[.,;]+(\s|$)"
"""Punctuation after a word. Brackets, quotes and operators stay: code and arithmetic live by them."""
MOST_ALIKE = 0.9
"""What responses with the same runs of words reach while some word, digit or operator of theirs differs."""


@dataclass(frozen=True)
class MeasureConfig:
    """Version of the measuring; nothing else decides the features."""

    version: int = 3
    """Raised when the same pairs would be measured otherwise."""


def measure_pairs(pairs: pl.DataFrame, cfg: MeasureConfig) -> Part:
    """One row of `Measured` a pair, in the order of the pairs."""
    prompts = hash_prompts(pairs["messages"])
    chosen, rejected = (read_wording(pairs[side]) for side in ("chosen", "rejected"))
    plain_chosen, plain_rejected = normalize_spaces(chosen.normalized), normalize_spaces(rejected.normalized)
    is_identical = plain_chosen == plain_rejected
    joined = pairs.select(pl.concat_str(prompts.text, "chosen", "rejected", separator="\n\n")).to_series()
    rows = pairs.select(
        "pair_id",
        "prompt_id",
        "origin",
        "flaw",
        "failed_score",
        "score_chosen",
        margin=pl.col("score_chosen") - pl.col("score_rejected"),
        z_margin=pl.col("z_chosen") - pl.col("z_rejected"),
        is_identical=is_identical,
        response_similarity=pl.Series(response_similarities(chosen, rejected, plain_chosen, plain_rejected)),
        personal=personal_kinds(joined),
    ).hstack(text_hashes(pairs["messages"], plain_chosen, plain_rejected))
    for side, wording in (("chosen", chosen), ("rejected", rejected)):
        rows = rows.hstack(response_features(side, prompts, wording, pairs[f"{side}_finish"]))
    return Part(rows.select(Measured.column_names()).pipe(Measured.cast), Dropped.create_empty())


def normalize_case(texts: pl.Series) -> pl.Series:
    """Texts with letter case, Unicode form and spacing normalized; punctuation stays, because code lives by it."""
    return normalize_spaces(normalize_texts(texts))


def normalize_spaces(texts: pl.Series) -> pl.Series:
    """Texts with single spaces between words and none around them."""
    # Single spaces stay as they are, because to write every one of them again takes as long as all the rest.
    return texts.str.replace_all(r"[\s\x00]{2,}|[\s\x00--\x20]", " ").str.strip_chars(" ")


def text_hashes(messages: pl.Series, chosen: pl.Series, rejected: pl.Series) -> pl.DataFrame:
    """`prompt_hash`, `chosen_hash` and `pair_hash`: the 64-bit XXH3 of the texts as `plain` leaves them.

    Of role and content of each turn, the chosen and the rejected response, each with a null character after it,
    which no plain text holds. `chosen` and `rejected` are plain, `messages` are as they came.
    """
    turns = messages.explode()
    keys = pl.DataFrame(
        {
            "row": pl.Series(np.repeat(np.arange(len(messages)), messages.list.len().to_numpy())),
            "turn": turns.struct.field("role") + "\0" + normalize_case(turns.struct.field("content")) + "\0",
        }
    )
    prompts = keys.group_by("row", maintain_order=True).agg(pl.col("turn").str.join())["turn"]
    hashes = []
    for texts in zip(prompts, chosen, rejected, strict=True):
        hashed = xxhash.xxh3_64(texts[0].encode())
        row = [hashed.intdigest()]
        for response in texts[1:]:
            hashed.update(response.encode() + b"\0")
            row.append(hashed.intdigest())
        hashes.append(row)
    columns = ("prompt_hash", "chosen_hash", "pair_hash")
    return pl.DataFrame(hashes, schema=dict.fromkeys(columns, pl.UInt64), orient="row")


def response_similarities(
    chosen: Wording, rejected: Wording, plain_chosen: pl.Series, plain_rejected: pl.Series
) -> Shares:
    """(pairs,) how alike the two responses are.

    Where only punctuation, spacing and filler words differ it is the share of words that are in both. Otherwise it
    is the Jaccard index of their runs of words times `MOST_ALIKE`: one digit or one "not" can be all that matters.
    """
    shared = chosen.runs.shared(rejected.runs)
    alike: NDArray[np.float64] = MOST_ALIKE * shared / np.maximum(chosen.runs.counts + rejected.runs.counts - shared, 1)
    # Equal sums of hashes are equal words in any order; only those are compared as texts.
    rows = np.flatnonzero(sum_word_hashes(chosen.words) == sum_word_hashes(rejected.words))
    same = rows[(strip_filler(plain_chosen.gather(rows)) == strip_filler(plain_rejected.gather(rows))).to_numpy()]
    counts = np.stack([chosen.words.counts[same], rejected.words.counts[same]])
    alike[same] = counts.min(axis=0) / np.maximum(counts.max(axis=0), 1)
    alike[(plain_chosen == plain_rejected).to_numpy()] = 1
    return alike.astype(np.float32)


def sum_word_hashes(words: HashedWords) -> Hashes:
    """(texts,) the sum of the hashes of all words but the fillers."""
    return sum_by_text(words, np.where(FILLERS.holds(words.hashes), np.uint64(0), words.hashes))


def strip_filler(texts: pl.Series) -> pl.Series:
    """Plain texts without punctuation after words, without filler words and without spaces."""
    marks = texts.str.replace_all(END_MARKS, "$1$2 ")
    return marks.str.replace_all(FILLER_WORD, "").str.replace_all(r"\s+", " ").str.strip_chars(" ")
