"""The `train` command: sft, dpo, reward.

train dpo --mix v1
"""

import argparse
import sys
from collections.abc import Sequence

from curate.flags import Parser, Result, add_flags, print_result, read_config, run_command, show_notes
from train.config import DPOConfig, RewardConfig, SFTConfig

COMMANDS: dict[str, type[RewardConfig | SFTConfig | DPOConfig]] = {
    "reward": RewardConfig,
    "sft": SFTConfig,
    "dpo": DPOConfig,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train`; the exit code is 0 done, 2 the user's mistake."""
    return run_command(run, argv)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="train", description="Fit models to preference pairs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, config in COMMANDS.items():
        about = (config.__doc__ or "").strip()
        add_flags(commands.add_parser(name, help=about, description=about, allow_abbrev=False), config)
    return parser


def run(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    show_notes("curate", "train")
    return print_result(fit(read_config(COMMANDS[arguments.command], arguments)), arguments.json)


def fit(cfg: RewardConfig | SFTConfig | DPOConfig) -> Result:
    """Run the command of a config, and import what it needs alone."""
    match cfg:
        case RewardConfig():
            from train.reward.reward import train_reward

            return train_reward(cfg)
        case SFTConfig():
            from train.sft import train_sft

            return train_sft(cfg)
        case DPOConfig():
            from train.dpo import train_dpo

            return train_dpo(cfg)


if __name__ == "__main__":
    sys.exit(main())
