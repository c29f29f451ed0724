"""The `train` command."""

import argparse
import logging
from collections.abc import Sequence

from curate.flags import add_flags, print_json, read_config, run_command
from train.reward import RewardConfig, train_reward


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train`; the exit code is 0 done, 2 the user's mistake."""
    return run_command(run, argv)


def run(argv: Sequence[str] | None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="train", description="Fit models to preference pairs.")
    commands = parser.add_subparsers(dest="command", required=True)
    reward = commands.add_parser("reward", help="fit a small reward head on frozen features of an embedded model")
    add_flags(reward, RewardConfig)
    return run_reward(parser.parse_args(argv))


def run_reward(arguments: argparse.Namespace) -> int:
    fitted = train_reward(read_config(RewardConfig, arguments))
    if arguments.json:
        print_json(fitted)
        return 0
    print(f"{fitted['name']}: {fitted['train_pairs']} training pairs, head in {fitted['folder']}")
    for dataset, (share, low, high) in fitted["accuracy"].items():
        longer = fitted["longer_wins"][dataset][0]
        print(f"  {dataset}: {share:.3f} ({low:.3f} to {high:.3f}) of held-out pairs; longer wins: {longer:.3f}")
    return 0
