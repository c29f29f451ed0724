"""`train reward` learns what can be learned, keeps prompts apart and refuses bad input."""

import gzip
import json
import subprocess
import sys

import polars as pl
import pytest
from json_lines import write_lines
from shared_data import DATASETS, needs_datasets

from curate.models.reward_head import HEADS, RewardHead, head_folder
from schemas.errors import UserError
from train.cli import main
from train.config import RewardConfig
from train.reward.card import reward_card
from train.reward.evaluate import length_margins
from train.reward.pairs import TextPair, read_reward_pairs
from train.reward.reward import train_reward
from train.reward.split import plant_pairs, split_pairs

TOPICS = """bread tea rain maps bees snow clocks rivers chess paper salt wool glass trains honey
apples kites stars boats lamps seeds drums bikes doors shoes soup sand trees birds books"""


@pytest.fixture(scope="module")
def separable(tmp_path_factory):
    """30 prompts; the chosen response is a full sentence about the topic, the rejected one shouts about nothing."""
    rows = [
        {
            "prompt": f"Tell me about {topic}.",
            "chosen": f"Here is something about {topic}: people have known {topic} for a very long time.",
            "rejected": "NO NO NO!!! 12345 67890",
        }
        for topic in TOPICS.split()
    ]
    return write_lines(tmp_path_factory.mktemp("pairs") / "separable.jsonl", rows)


@pytest.fixture(scope="module")
def fitted(separable, tmp_path_factory):
    """The config of a fit on the separable set, and what it returned."""
    data = tmp_path_factory.mktemp("data")
    config = RewardConfig(pairs=(str(separable),), backbone="minilm", name="tiny", data=data)
    return config, train_reward(config)


def make_pair(prompt="Why?", chosen="Because.", rejected="No.", group="g", dataset="d"):
    return TextPair(dataset, ({"role": "user", "content": prompt},), chosen, rejected, group, True)


def test_a_separable_set_is_learned(fitted):
    config, result = fitted

    assert result.accuracy["separable"][0] > 0.9
    assert result.train_pairs + result.heldout_pairs == 30
    assert result.folder == config.data / "models" / "tiny"


def test_a_saved_head_loads_and_scores_the_same(fitted):
    folder = fitted[1].folder
    asked = [[{"role": "user", "content": "Tell me about sugar."}]] * 2
    responses = ["Here is something about sugar: it is sweet.", "NO NO NO!!! 999"]

    good, bad = RewardHead.load(folder).score(asked, responses)
    again = RewardHead.load(folder).score(asked, responses)

    assert good > bad
    assert again == [good, bad]


def test_the_same_command_gives_the_same_bytes_and_one_json_object(fitted, capsys):
    config, result = fitted
    folder = result.folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    flags = ["--pairs", *config.pairs, "--backbone", "minilm", "--name", "tiny", "--data", str(config.data)]

    code = main(["reward", *flags, "--json"])

    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert set(before) == {"README.md", "digests.json", "head.safetensors", "results.json"}
    expected = json.loads(json.dumps(result.summary()))
    del printed["seconds"], expected["seconds"]
    assert printed == expected
    assert [path.name for path in (config.data / "models").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--pairs must be given"),
        (["--pairs", "nowhere.jsonl"], "no file nowhere.jsonl"),
        (["--pairs", "SET", "--name", "../up"], "--name '../up' must be letters, digits"),
        (["--pairs", "SET", "--name", ".."], "--name '..' must be letters, digits"),
    ],
)
def test_bad_flags_are_refused_in_one_sentence(flags, message, separable, tmp_path, capsys):
    given = [str(separable) if flag == "SET" else flag for flag in flags]

    code = main(["reward", *given, "--backbone", "minilm", "--data", str(tmp_path / "data")])

    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data" / "models").exists()


def test_an_unknown_backbone_is_refused(separable, capsys):
    assert main(["reward", "--pairs", str(separable), "--backbone", "bert"]) == 2
    assert "invalid choice: 'bert'" in capsys.readouterr().err


def test_too_few_prompts_are_refused_before_any_file_is_written(tmp_path):
    rows = [{"prompt": "Why?", "chosen": f"Because {n}.", "rejected": "No."} for n in range(50)]
    path = write_lines(tmp_path / "one_prompt.jsonl", rows)

    with pytest.raises(UserError, match="too few prompts"):
        train_reward(RewardConfig(pairs=(str(path),), backbone="minilm", data=tmp_path / "data"))

    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("not json", "none of the 1 rows"),
        ('{"text": "x"}', "holds no pairs of a known format: found text"),
        ('{"prompt": "Why?", "chosen": "x", "rejected": "x"}', "no usable preference pair"),
        ('{"prompt": "Why?", "chosen": "", "rejected": "x"}', "no usable preference pair"),
        ('{"prompt": "?", "chosen": "a", "rejected": "b", "score_chosen": 3, "score_rejected": 3}', "no usable"),
        ('{"chosen": "no turns", "rejected": "at all"}', "holds no pairs of a known format: found chosen, rejected"),
    ],
)
def test_a_file_without_usable_pairs_is_refused(content, message, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)

    with pytest.raises(UserError, match=message):
        read_reward_pairs([path])


def test_hh_texts_become_a_conversation_and_two_responses(tmp_path):
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    path = tmp_path / "hh.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"chosen": f"{start} Because.", "rejected": f"{start} No."}).encode()))

    (pair,) = read_reward_pairs([path])

    assert [turn["role"] for turn in pair.messages] == ["user", "assistant", "user"]
    assert (pair.chosen, pair.rejected, pair.dataset) == ("Because.", "No.", "hh")


def test_graded_solutions_are_paired_right_against_wrong_and_none_is_used_twice(tmp_path):
    row = {"prompt": "1+1?", "responses": ["2", "3", "two", "4"], "is_correct": [True, False, True, False]}
    path = tmp_path / "sums.parquet"
    pl.DataFrame([row]).write_parquet(path)

    pairs = read_reward_pairs([path])

    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("2", "3"), ("two", "4")]


def test_no_prompt_group_is_in_two_parts_and_shares_do_not_overlap():
    pairs = [make_pair(group=f"g{n % 100}", chosen=str(n)) for n in range(300)]

    (train_a, held_a), (train_b, held_b) = split_pairs(pairs, "a", 0), split_pairs(pairs, "b", 0)

    groups = [{pair.group for pair in part} for part in (train_a, train_b, held_a)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 100
    assert held_a == held_b
    assert len(train_a) + len(train_b) + len(held_a) == 300


def test_planted_responses_replace_the_rejected_one_only():
    pairs = [make_pair(prompt=f"Why {n}?", chosen=f"Because {n} " * 10, group=f"g{n}") for n in range(200)]

    planted = plant_pairs(pairs, seed=0)

    assert 30 < len(planted) < 70  # a quarter of 200, give or take
    assert {"", ".", "I cannot help with that."} <= {pair.rejected for pair in planted}
    assert {pair.chosen for pair in planted} <= {pair.chosen for pair in pairs}


def test_equal_lengths_are_a_tie_for_longer_wins():
    assert length_margins([make_pair(chosen="abc", rejected="xyz")]).tolist() == [0.0]


@pytest.mark.parametrize("alias", HEADS)
def test_a_shipped_card_is_what_its_results_give(alias):
    folder = head_folder(alias)

    card = reward_card(json.loads((folder / "results.json").read_text()))

    assert (folder / "README.md").read_text() == card


@needs_datasets
def test_the_public_files_give_the_counts_of_the_cards():
    files = ("ultrafeedback_pairs.parquet", "hh_harmless_pairs.jsonl.gz", "gsm8k_4solutions.jsonl")
    pairs = read_reward_pairs([DATASETS / name for name in files])

    counts = {name: sum(pair.dataset == name for pair in pairs) for name in {pair.dataset for pair in pairs}}

    # 614 - 74 ties - 2 identical; 1390 - 2 empty - 2 with two prompts; correct against wrong, two a problem.
    assert counts == {"ultrafeedback_pairs": 538, "hh_harmless_pairs": 1386, "gsm8k_4solutions": 634}


def test_help_does_not_load_torch():
    lines = ["import sys", "from train.cli import main", "try: main(['reward', '--help'])"]
    code = "\n".join([*lines, "except SystemExit: print('torch' in sys.modules)"])

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.splitlines()[-1] == "False"
