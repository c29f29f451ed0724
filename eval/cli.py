"""The `eval` command, also run as `python -m eval`.

evaluate dpo-v1 --num-prompts 200
"""

import argparse
from collections.abc import Sequence
from typing import Any

from curate.flags import Parser, add_flags, print_json, read_config, run_command, show_notes
from eval.config import EvalConfig

CONTRACT = (
    *("run", "baseline", "judge", "n", "wins", "losses", "ties", "win_rate", "win_rate_strict"),
    *("ci95", "detectable", "results"),
)
"""The JSON object of `--json`; the names are a contract."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(run, argv)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    about = (EvalConfig.__doc__ or "").strip()
    parser = Parser("eval", description=about, allow_abbrev=False)
    add_flags(parser, EvalConfig)
    return parser


def run(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    show_notes("curate", "eval")
    cfg = read_config(EvalConfig, arguments)
    return respond_command(cfg, arguments.json) if cfg.responses_only else eval_command(cfg, arguments.json)


def eval_command(cfg: EvalConfig, as_json: bool) -> int:
    from eval.evaluate import evaluate
    from eval.matchup import resolve_matchup

    results = evaluate(cfg, resolve_matchup(cfg))
    print("\n".join(format_results(results)))
    if as_json:
        print_json({name: results[name] for name in CONTRACT})
    return 0


def respond_command(cfg: EvalConfig, as_json: bool) -> int:
    from eval.evaluate import respond
    from eval.matchup import engine_model, resolve_run

    assert cfg.responses_only
    name, _ = resolve_run(cfg)
    written = respond(cfg, name, engine_model(name, cfg), cfg.responses_only)
    unanswered = "".join(f", {count} {reason}" for reason, count in written["unanswered"].items())
    print(f"{written['file']}: {written['responses']} responses of {name} to {written['prompts']} prompts{unanswered}")
    if as_json:
        print_json(written)
    return 0


def format_results(results: dict[str, Any]) -> list[str]:
    """The result in lines; reasons not to trust it come first."""
    from eval.report import describe_findings, describe_verdict

    facts = describe_findings(results)
    width = max(map(len, facts))
    return [
        *results["notes"],
        f"{results['run']} against {results['baseline']}, judged by {results['judge']}: {describe_verdict(results)}",
        *(f"  {fact:{width}}  {value}" for fact, value in facts.items()),
        results["results"],
    ]
