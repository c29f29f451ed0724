"""The `train` command: sft, dpo, reward.

train dpo --mix v1
"""

import argparse
import sys
from collections.abc import Sequence

from curate.flags import Parser, add_flags, print_result, read_config, run_command, show_notes
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

    return print_result(train_reward(cfg), arguments.json)


def run_sft(arguments: argparse.Namespace) -> int:
    cfg = read_config(SFTConfig, arguments)
    from train.sft import train_sft

    return print_result(train_sft(cfg), arguments.json)


def run_dpo(arguments: argparse.Namespace) -> int:
    cfg = read_config(DPOConfig, arguments)
    from train.dpo import train_dpo

    return print_result(train_dpo(cfg), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
