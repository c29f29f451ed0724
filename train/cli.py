"""The `train` command: sft, dpo, reward.

train dpo --mix v1
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from curate.flags import Parser, add_flags, print_json, read_config, run_command, show_notes
from train.config import DPOConfig, RewardConfig, SFTConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train`; the exit code is 0 done, 2 the user's mistake."""
    return run_command(run, argv)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="train", description="Fit models to preference pairs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, config in (("reward", RewardConfig), ("sft", SFTConfig), ("dpo", DPOConfig)):
        about = (config.__doc__ or "").strip()
        add_flags(commands.add_parser(name, help=about, description=about, allow_abbrev=False), config)
    return parser


def run(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    show_notes("curate", "train")
    return {"reward": run_reward, "sft": run_sft, "dpo": run_dpo}[arguments.command](arguments)


def run_reward(arguments: argparse.Namespace) -> int:
    cfg = read_config(RewardConfig, arguments)
    from train.reward.reward import train_reward

    fitted = train_reward(cfg)
    if arguments.json:
        print_json(fitted)
        return 0
    print(f"{fitted['name']}: {fitted['train_pairs']} training pairs, head in {fitted['folder']}")
    for dataset, (share, low, high) in fitted["accuracy"].items():
        longer = fitted["longer_wins"][dataset][0]
        print(f"  {dataset}: {share:.3f} ({low:.3f} to {high:.3f}) of held-out pairs; longer wins: {longer:.3f}")
    return 0


def run_sft(arguments: argparse.Namespace) -> int:
    cfg = read_config(SFTConfig, arguments)
    from train.sft import train_sft

    return show_run(train_sft(cfg), arguments.json)


def run_dpo(arguments: argparse.Namespace) -> int:
    cfg = read_config(DPOConfig, arguments)
    from train.dpo import train_dpo

    return show_run(train_dpo(cfg), arguments.json)


def show_run(trained: dict[str, Any], as_json: bool) -> int:
    """Print the result of a run, as a line or as JSON."""
    if as_json:
        print_json(trained)
        return 0
    losses = f"loss {trained['first_loss']:.4f} at the first, {trained['last_loss']:.4f} at the last"
    spent = f"{trained['tokens']:,} tokens, {trained['seconds']:.1f} s, {trained['peak_rss_mb']:,} MB at most"
    print(f"run '{trained['run']}': {trained['steps']} steps, {losses}; {spent}")
    print(trained["adapter"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
