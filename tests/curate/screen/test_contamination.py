import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import DATASETS

from curate.screen.benchmark_prompts import Benchmark, read_benchmark
from curate.screen.contamination import ContaminationConfig, find_contamination
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config

needs_datasets = pytest.mark.skipif(not DATASETS.exists(), reason="the shared datasets are not here")

WORDS = [f"word{i}" for i in range(1000)]
PROMPT = " ".join(WORDS[:20])
"""20 words: 13 of its 8-grams, 8 of its 13-grams."""


def benchmark(*prompts, name="eval.jsonl"):
    return Benchmark(name, name, prompts, tuple(range(len(prompts))))


def found(pairs, *benchmarks):
    cfg = ContaminationConfig(tuple((one.name, one.sha256) for one in benchmarks))
    return find_contamination(pairs.lazy(), cfg, benchmarks=benchmarks)


def test_no_pairs_and_no_benchmarks_find_nothing(make_pairs):
    pairs = make_pairs(prompt=[PROMPT])

    assert found(pairs.clear(), benchmark(PROMPT)).height == 0
    assert found(pairs).height == 0
    assert found(pairs, benchmark("?!")).height == 0


def test_a_copied_prompt_is_found_whatever_its_case_and_punctuation(make_pairs):
    pairs = make_pairs(prompt=["Something else", PROMPT.upper().replace(" ", ", ")])

    rows = found(pairs, benchmark("Another one", PROMPT))

    assert rows.to_dicts() == [
        {"pair_id": pairs["pair_id"][1], "against": "eval.jsonl", "prompt": 1, "has_13gram": True, "coverage": 1.0}
    ]


@pytest.mark.parametrize("place", ["prompt", "chosen", "rejected"])
def test_every_text_of_a_pair_is_searched(make_pairs, place):
    pairs = make_pairs(**{place: [f"Before it. {PROMPT} And after."]})

    assert found(pairs, benchmark(PROMPT)).height == 1


def test_thirteen_words_in_a_row_are_a_hit_and_twelve_are_not(make_pairs):
    long = " ".join(WORDS[:100])
    pairs = make_pairs(chosen=[" ".join(WORDS[40:53]), " ".join(WORDS[40:52])])

    rows = found(pairs, benchmark(long))

    assert rows["pair_id"].to_list() == [pairs["pair_id"][0]]
    assert rows["has_13gram"].to_list() == [True]


def test_the_docstring_example_is_what_is_found(make_pairs):
    chosen = ["x A B C D E F G H I J K L M y", "A B C D E F G H I J x K L M N", "A B C D E F G H", "A B C D"]
    pairs = make_pairs(chosen=chosen)

    rows = found(pairs, benchmark("A B C D E F G H I J K L M N"))

    assert rows["pair_id"].to_list() == pairs["pair_id"].to_list()[:2]
    assert rows["has_13gram"].to_list() == [True, False]
    assert rows["coverage"].to_list() == pytest.approx([6 / 7, 3 / 7])


def test_words_do_not_run_on_from_one_text_to_the_next(make_pairs):
    pairs = make_pairs(prompt=[" ".join(WORDS[:7])], chosen=[" ".join(WORDS[7:14])], rejected=[" ".join(WORDS[14:20])])

    assert found(pairs, benchmark(PROMPT)).height == 0


def test_half_of_the_8_grams_are_told_where_no_13_are_in_a_row(make_pairs):
    # 5 of 13 8-grams in the first 12 words, 1 in the last 8.
    pairs = make_pairs(chosen=[" ".join([*WORDS[:12], "but", *WORDS[12:20]])])

    rows = found(pairs, benchmark(PROMPT))

    assert rows["has_13gram"].to_list() == [False]
    assert rows["coverage"][0] == pytest.approx(6 / 13)


def test_a_short_prompt_counts_only_as_a_whole_user_turn(make_pairs):
    pairs = make_pairs(
        prompt=["why is the sky blue", "Why is the sky blue at noon?", "Say something"],
        chosen=["a", "b", "Why is the sky blue?"],
    )

    rows = found(pairs, benchmark("Why is the sky blue?"))

    assert rows["pair_id"].to_list() == [pairs["pair_id"][0]]
    assert rows["coverage"].to_list() == [1.0]


def test_the_template_of_a_file_does_not_count_but_its_prompts_do(make_pairs):
    template = " ".join(WORDS[:30])
    prompts = [f"{template} {' '.join(WORDS[100 * i : 100 * i + 5])}" for i in range(1, 6)]
    pairs = make_pairs(prompt=[f"{template} of my own", prompts[2]])

    rows = found(pairs, benchmark(*prompts))

    assert rows["pair_id"].to_list() == [pairs["pair_id"][1]]
    assert rows["prompt"].to_list() == [2]


def test_a_way_of_asking_of_the_build_does_not_count(make_pairs):
    asking = " ".join(WORDS[:15])
    pairs = make_pairs(prompt=[f"{asking} {word}" for word in WORDS[500:600]])

    assert found(pairs, benchmark(f"{asking} {' '.join(WORDS[100:120])}")).height == 0
    assert found(pairs[:5], benchmark(f"{asking} {' '.join(WORDS[100:120])}")).height == 5


def test_a_prompt_copied_a_thousand_times_is_found_everywhere(make_pairs):
    same = make_pairs(chosen=[f"Answer {i}" for i in range(1000)], prompt=[PROMPT] * 1000)
    within = make_pairs(prompt=[f"Task {i}: {PROMPT} Go." for i in range(1000)])

    assert found(same, benchmark(PROMPT)).height == 1000
    assert found(within, benchmark(PROMPT)).height == 1000


def test_of_several_files_the_one_it_shares_most_with_is_named(make_pairs):
    pairs = make_pairs(prompt=[PROMPT])
    part = benchmark(" ".join(WORDS[:14] + WORDS[100:140]), name="part.jsonl")

    rows = found(pairs, part, benchmark(PROMPT, name="all.jsonl"))

    assert rows.select("against", "coverage").rows() == [("all.jsonl", 1.0)]


def test_emoji_right_to_left_text_and_unspaced_scripts_are_found(make_pairs):
    prompts = ["ما هي عاصمة فرنسا وكيف أصل إليها من برلين بالقطار غدا", "日本で一番高い山は何ですか教えてください 🙂"]
    pairs = make_pairs(prompt=[f"🙂 {prompt} 🙂" for prompt in prompts])

    assert found(pairs, benchmark(*prompts))["coverage"].to_list() == [1.0, 1.0]


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(WORDS[:4]), max_size=30), min_size=1, max_size=4))
def test_shares_are_those_of_a_plain_count(texts):
    prompt = " ".join(WORDS[:2] * 10)
    frames = [{"pair_id": str(i), "text": " ".join(words)} for i, words in enumerate(texts)]
    pairs = pl.DataFrame(frames).select(
        "pair_id",
        prompt_group="pair_id",
        messages=pl.concat_list(pl.struct(role=pl.lit("user"), content=pl.lit("Go on"))),
        chosen="text",
        rejected=pl.lit(""),
    )

    rows = {row["pair_id"]: row for row in found(pairs, benchmark(prompt)).to_dicts()}

    wanted, wanted_long = grams(prompt.split(), 8), grams(prompt.split(), 13)
    for i, words in enumerate(texts):
        share = len(wanted & grams(words, 8)) / len(wanted)
        has_13gram = bool(wanted_long & grams(words, 13))
        assert (str(i) in rows) == (share >= 0.25 or has_13gram)
        if str(i) in rows:
            assert rows[str(i)]["coverage"] == pytest.approx(share)
            assert rows[str(i)]["has_13gram"] == has_13gram


def grams(words, n):
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_pairs_are_found_in_their_order_over_many_blocks(make_pairs):
    pairs = make_pairs(prompt=[PROMPT if i % 7 == 0 else f"Number {i}" for i in range(5000)])

    rows = found(pairs, benchmark(PROMPT))

    assert rows["pair_id"].to_list() == pairs["pair_id"].gather_every(7).to_list()


@needs_datasets
def test_pandalm_holds_the_prompts_of_self_instruct():
    pandalm = pl.read_parquet(DATASETS / "pandalm_pairs_3humans_2judges.parquet")
    prompt = pl.concat_str("instruction", "input", separator="\n\n")
    pairs = pandalm.select(
        pair_id=pl.int_range(pl.len()).cast(pl.String),
        prompt_group="instruction",
        messages=pl.concat_list(pl.struct(role=pl.lit("user"), content=prompt)),
        chosen="response1",
        rejected="response2",
    )

    rows = found(pairs, read_benchmark(str(DATASETS / "self_instruct_252_user_oriented.jsonl")))

    hits = pairs.join(rows.filter(pl.col("has_13gram") | (pl.col("coverage") >= 0.5)), on="pair_id", how="anti")
    # The one that is left is the word "Truthfulness" and no instruction.
    assert hits["messages"].n_unique() == 1


@needs_datasets
@pytest.mark.parametrize(
    "name", ["ultrafeedback_pairs.parquet", "hh_harmless_pairs.jsonl.gz", "llamafactory_dpo_en.json"]
)
def test_real_pairs_that_hold_no_evaluation_prompt_are_let_be(name):
    pairs = pl.concat([part.rows for part in read_pairs(rows_config(str(DATASETS / name), None, 1))])
    files = ("mt_bench_questions", "arena_hard_v01_questions", "self_instruct_252_user_oriented")

    assert found(pairs, *[read_benchmark(str(DATASETS / f"{file}.jsonl")) for file in files]).height == 0
