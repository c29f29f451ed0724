"""Each warning comes when its reason is there, and not before."""

from train.loop.diagnostics import warnings_of


def check(step, loss, accuracy=0.5, chosen=-100.0, rows=400):
    return {
        "step": step,
        "epoch": step / 8,
        "eval_loss": loss,
        "eval_rows": rows,
        "eval_rewards/accuracies": accuracy,
        "eval_logps/chosen": chosen,
    }


def step(number, accuracy=0.5, chosen=-100.0):
    return {"step": number, "epoch": number / 8, "loss": 0.6, "rewards/accuracies": accuracy, "logps/chosen": chosen}


def test_a_run_that_goes_well_gives_no_warning():
    rows = [check(0, 0.69), step(1), check(1, 0.6, 0.6), step(2, 0.7), check(2, 0.5, 0.7, chosen=-110.0)]

    assert warnings_of(rows) == {}
    assert warnings_of([]) == {}


def test_a_held_out_loss_with_its_minimum_behind_it_is_told_from_noise():
    turned = [check(0, 0.69), step(1), check(1, 0.50), step(2), check(2, 0.52), step(3), check(3, 0.51)]

    assert list(warnings_of(turned)) == ["heldout_loss"]
    assert "minimum, 0.5000, at step 1 and is 0.5100 at step 3" in warnings_of(turned)["heldout_loss"]
    assert warnings_of(turned[:5]) == {}
    assert warnings_of([*turned[:-1], check(3, 0.504)]) == {}


def test_held_out_accuracy_that_falls_while_training_rises():
    start = [check(0, 0.69), step(1, 0.5), check(1, 0.6, 0.8)]
    fallen = [step(2, 0.9), check(2, 0.59, 0.7), step(3, 0.9), check(3, 0.58, 0.6)]
    steady = [step(2, 0.9), check(2, 0.59, 0.7), step(3, 0.5), check(3, 0.58, 0.6)]

    assert "fell from 0.800 at step 1 to 0.600 at step 3" in warnings_of([*start, *fallen])["heldout_accuracy"]
    assert warnings_of([*start, *fallen[:2]]) == {}
    assert warnings_of([*start, *steady]) == {}


def test_a_fall_that_a_few_held_out_pairs_can_show_by_chance_is_no_warning():
    fallen = [check(0, 0.69, rows=5), step(1, 0.25), check(1, 0.6, 1.0, rows=5), step(2, 0.5)]
    fallen += [check(2, 0.59, 0.8, rows=5), step(3, 0.5), check(3, 0.58, 0.8, rows=5)]

    assert warnings_of(fallen) == {}


def test_a_chosen_log_probability_that_falls_by_more_than_a_tenth():
    on_the_edge = [check(0, 0.69), step(1), check(1, 0.6), step(2), check(2, 0.5, chosen=-110.0)]
    beyond = [*on_the_edge[:-1], check(2, 0.5, chosen=-111.0)]

    assert warnings_of(on_the_edge) == {}
    assert "fell by 11%, from -100.0 to -111.0" in warnings_of(beyond)["chosen_logps"]


def test_a_row_that_is_the_mean_of_several_steps_counts_as_often():
    start = [check(0, 0.69), step(1, 0.5), check(1, 0.6, 0.8)]
    fallen = [step(2, 0.9), check(2, 0.59, 0.7), step(3, 0.9), check(3, 0.58, 0.6)]
    risen, even = ([{**step(3, 0.4), "steps": n}, *fallen] for n in (1, 100))

    assert "heldout_accuracy" in warnings_of([*start, *risen])
    assert "heldout_accuracy" not in warnings_of([*start, *even])


def test_without_held_out_rows_whole_epochs_are_compared():
    rows = [step(n, chosen=-100.0 if n <= 8 else -120.0) for n in range(1, 17)]

    assert "training chosen responses fell by 20%" in warnings_of(rows)["chosen_logps"]
