from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shared_data import DATASETS

from curate.screen.similar import lexical
from curate.screen.similar.lexical import LexicalConfig, find_lexical_duplicates
from schemas.tables import Pair, Similar

Make = Callable[..., pl.DataFrame]

PASSAGE = " ".join(f"word{i} of the passage" for i in range(60))
ANSWER = "The library opens at nine in the morning and closes at six, except on Sundays when it stays shut all day."


def measured(pairs: pl.DataFrame, margins: list[float] | None = None) -> pl.LazyFrame:
    """The columns of `Measured` that are read."""
    none = pl.lit(None, dtype=pl.Float64)
    return pairs.lazy().select(
        "pair_id",
        z_margin=none,
        margin=pl.Series(margins, dtype=pl.Float64) if margins else none,
        chosen_hash=pl.struct("messages", "chosen").hash(),
    )


def copies_of(pairs: pl.DataFrame, floor: float = 0.5) -> list[dict[str, Any]]:
    found = find_lexical_duplicates(pairs.lazy(), measured(pairs), LexicalConfig(floor))
    Similar.validate(found)
    return found.to_dicts()


def test_no_pairs_have_no_copies(make_pairs: Make) -> None:
    assert copies_of(make_pairs(prompt=["One?"]).head(0)) == []


def test_one_pair_has_no_copy(make_pairs: Make) -> None:
    assert copies_of(make_pairs(prompt=[PASSAGE], chosen=[ANSWER])) == []


def test_short_and_empty_texts_are_no_copies_of_each_other(make_pairs: Make) -> None:
    assert copies_of(make_pairs(prompt=["", "?", "Yes"], chosen=["", "No", "no"])) == []


def test_of_equal_texts_only_the_first_stands_in_edges(make_pairs: Make) -> None:
    near = ANSWER.replace("library", "reading room")
    pairs = make_pairs(prompt=[PASSAGE] * 4, chosen=[ANSWER, ANSWER, near, near], rejected=["a", "b", "c", "d"])

    found = copies_of(pairs)

    assert [(row["left"], row["right"], row["kind"]) for row in found] == [(0, 2, "text")]


def test_case_spacing_and_punctuation_make_no_difference(make_pairs: Make) -> None:
    pairs = make_pairs(
        prompt=["When is it open?", " When  is it open"], chosen=[ANSWER, ANSWER.upper().replace(",", "")]
    )

    assert [row["similarity"] for row in copies_of(pairs)] == [1.0]


def test_two_questions_about_one_passage_are_no_copies(make_pairs: Make) -> None:
    prompts = [f"{PASSAGE} Who wrote it?", f"{PASSAGE} How long is it?"]

    assert copies_of(make_pairs(prompt=prompts, chosen=["Nobody knows who did.", "About two pages in print."])) == []


def test_two_answers_to_one_long_prompt_are_no_copies(make_pairs: Make) -> None:
    answers = [ANSWER, "I cannot tell from what is said here, so please ask somebody who works there."]

    assert copies_of(make_pairs(prompt=[PASSAGE] * 2, chosen=answers)) == []


def test_similarity_is_that_of_the_words_of_the_less_alike_side(make_pairs: Make) -> None:
    # The chosen responses have 18 distinct words each; one differs: 17 shared of 19.
    pairs = make_pairs(prompt=[PASSAGE] * 2, chosen=[ANSWER, ANSWER.replace("library", "museum")])

    words = {word.strip(".,") for word in ANSWER.lower().split()}
    assert copies_of(pairs)[0]["similarity"] == pytest.approx((len(words) - 1) / (len(words) + 1), abs=1e-4)


def test_copies_under_the_floor_are_left_out(make_pairs: Make) -> None:
    pairs = make_pairs(prompt=[PASSAGE] * 2, chosen=[ANSWER, ANSWER.replace("library", "museum")])

    assert copies_of(pairs, floor=0.95) == []


def test_all_turns_of_a_conversation_count(make_pairs: Make) -> None:
    def talk(answer: str) -> list[dict[str, str]]:
        turns = [("user", "Hi there."), ("assistant", answer), ("user", "Go on.")]
        return [{"role": role, "content": content} for role, content in turns]

    other = "Tomatoes want sun and a stake to climb on, and water at the root every other day in summer."
    pairs = make_pairs(messages=[talk(ANSWER), talk(other)], chosen=["And then it closes."] * 2)

    assert copies_of(pairs) == []


def test_a_crowd_of_copies_takes_few_edges_to_its_best_row(make_pairs: Make) -> None:
    count = 400
    pairs = make_pairs(prompt=[PASSAGE] * count, chosen=[f"{ANSWER} Room {i}." for i in range(count)])
    margins = [float(i) for i in range(count)]

    found = find_lexical_duplicates(pairs.lazy(), measured(pairs, margins), LexicalConfig())

    assert found.height < count * lexical.LEADERS * 4
    # The last row has the largest margin, and every other one may fall to it.
    assert found.filter(pl.col("right") == count - 1)["left"].n_unique() == count - 1


def test_blocks_change_nothing(make_pairs: Make, tmp_path: Path) -> None:
    pairs = make_pairs(
        prompt=[f"{PASSAGE} Part {i // 2}" for i in range(40)],
        chosen=[f"{ANSWER} {'x' * (i // 2)} {i}" for i in range(40)],
    )
    for part in range(4):
        pairs[part * 10 : part * 10 + 10].write_parquet(tmp_path / f"{part}.parquet")

    in_parts = find_lexical_duplicates(pl.scan_parquet(tmp_path / "*.parquet"), measured(pairs), LexicalConfig())

    assert in_parts.equals(find_lexical_duplicates(pairs.lazy(), measured(pairs), LexicalConfig()))


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared datasets are not here")
def test_real_answers_hold_few_copies_and_slips_are_found(make_pairs: Make) -> None:
    rows = pl.read_parquet(DATASETS / "ultrafeedback_pairs.parquet").head(300)
    slips = rows.select("prompt", pl.col("chosen").str.replace_all(r"(?s)((?:\S+\s+){29})\S+", "${1}slip"))
    prompts, chosen = ([*rows[side], *slips[side]] for side in ("prompt", "chosen"))
    pairs = make_pairs(prompt=prompts, chosen=chosen, rejected=[str(i) for i in range(600)])
    assert pairs.columns == Pair.column_names()

    found = find_lexical_duplicates(pairs.lazy(), measured(pairs), LexicalConfig()).filter(pl.col("similarity") >= 0.8)

    is_slip = found["right"] - found["left"] == 300
    untouched = int((slips["chosen"] == rows["chosen"]).sum())
    assert is_slip.sum() >= 0.99 * (300 - untouched)
    assert (~is_slip).sum() <= 3
