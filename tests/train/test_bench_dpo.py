"""What the benchmark of DPO steps counts, deals and compares, on numbers small enough to work out by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """The scripts import one another by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def pair(prompt, chosen, rejected):
    from dpo_pairs import Pair

    return Pair("", "", "", *([0] * count for count in (prompt, chosen, rejected)))


def test_work_of_a_pair_packed_and_padded():
    from dpo_flops import Work, packed_work, padded_work

    micros = [[pair(2, 3, 1), pair(1, 1, 2)]]

    # first pair: 5 * 6 / 2 looks of prompt and chosen, 2 * 1 + 1 of the rejected token; second: 2 * 3 / 2 and 1 * 2 + 3
    assert packed_work(micros) == Work(tokens=6 + 4, attended=15 + 3 + 3 + 5, scored=4 + 3)
    # under a mask two tokens look at one another both ways
    assert packed_work(micros, on_cpu=True).attended == 15 + 3 + 3 + 6
    # four lines of five tokens
    assert padded_work(micros, True) == Work(tokens=20, attended=100, scored=7)
    assert padded_work(micros, False).scored == 4 * 4


def test_operations_of_a_step():
    from dpo_flops import Shape, Work, done_flops, needed_flops

    shape = Shape(width=4, inner=8, layers=1, heads=2, kv_heads=1, head_width=2, vocabulary=10)
    work = Work(tokens=1, attended=1, scored=1)
    # query and output 4 * 4, key and value 4 * 2, three of 4 * 8; rank 8 on query (4 + 4) and value (4 + 2)
    linear = 32 + 16 + 96 + 8 * 8 + 8 * 6
    attention, head = 2 * 2 * 2, 4 * 10

    assert needed_flops(shape, work) == 2 * 2 * (linear + attention + head) + 2 * attention
    assert done_flops(shape, work, "trl_tuned") == needed_flops(shape, work) + 2 * head
    # a reference forward, and layers once more
    expected = done_flops(shape, work, "trl_tuned") + 2 * 2 * (linear + attention + head) - 2 * head
    assert done_flops(shape, work, "trl_default") == expected


def test_steps_have_pairs_alike_in_length_and_all_lengths():
    from dpo_pairs import dealt_at_random, length_groups

    pairs = [pair(1, size, 1) for size in range(1, 65)]

    steps = length_groups(pairs, 4, seed=1)

    for micro in (micro for step in steps for micro in step):
        lengths = sorted(one.longest() for one in micro)
        assert lengths == list(range(lengths[0], lengths[0] + 4))
    assert sorted({micro[0].longest() // 8 for step in steps for micro in step}) == list(range(8))
    dealt = dealt_at_random(steps, seed=1)
    assert dealt != steps
    for step, other in zip(steps, dealt, strict=True):
        assert {id(one) for micro in step for one in micro} == {id(one) for micro in other for one in micro}


def test_gradients_that_differ_in_the_smallest_tensor(tmp_path):
    from dpo_measured import gradient_differences

    one = {"large": torch.tensor([3.0, 4.0]), "small": torch.tensor([0.5])}
    save_file(one, tmp_path / "one")
    save_file(one | {"small": torch.tensor([1.0])}, tmp_path / "other")

    found = gradient_differences(tmp_path / "one", tmp_path / "other")

    assert found == pytest.approx({"tensor": 0.5, "all": 0.5 / 26**0.5, "entry": 0.125})


def test_times_are_of_the_rounds_in_which_both_had_the_same_pairs():
    from dpo_tables import times_ours

    runs = {"ours": [{"cpu_s": [1.0]}, {"cpu_s": [10.0]}, {"cpu_s": [3.0]}]}
    runs["trl_tuned"] = [{"cpu_s": [2.0]}, {"cpu_s": [21.0]}, {"cpu_s": [12.0]}]

    assert times_ours(runs, "trl_tuned", "cpu_s") == 2.1


def test_equality_is_told_by_the_distance_of_both_from_float64():
    from dpo_tables import errors_over_trl

    differences = {"ours and trl_tuned": {"loss": 9.0, "all": 9.0}, "ours and float64": {"loss": 3.0, "all": 1.0}}
    theirs = {"trl_tuned and float64": {"loss": 2.0, "all": 4.0}}

    assert errors_over_trl({"differences": differences | theirs}) == {"loss": 1.5, "gradient": 0.25}
    # on a GPU nothing is computed in float64
    assert errors_over_trl({"differences": differences}) == {}
