"""The `eval` command, also run as `python -m eval`.

evaluate dpo-v1 --num-prompts 200
"""

import argparse
from collections.abc import Sequence

from curate.flags import Parser, add_flags, print_result, read_config, run_command, show_notes
from eval.config import EvalConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(run, argv)


def make_parser() -> argparse.ArgumentParser:
    about = (EvalConfig.__doc__ or "").strip()
    parser = Parser("eval", description=about, allow_abbrev=False)
    add_flags(parser, EvalConfig)
    return parser


def run(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    show_notes("curate", "eval")
    cfg = read_config(EvalConfig, arguments)
    from eval.evaluate import evaluate, respond
    from eval.matchup import engine_model, resolve_matchup, resolve_run

    if cfg.responses_only:
        name, _ = resolve_run(cfg)
        return print_result(respond(cfg, name, engine_model(name, cfg), cfg.responses_only), arguments.json)
    return print_result(evaluate(cfg, resolve_matchup(cfg)), arguments.json)
