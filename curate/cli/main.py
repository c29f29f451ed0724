"""The `curate` command: build, screen, review, mix, export, verify, diff, push, pull, explain, show, ledger, doctor."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from curate.cli.columns import align_columns
from curate.cli.ledger import ledger_command
from curate.cli.review import ABOUT as REVIEW
from curate.cli.review import COMMANDS as REVIEW_COMMANDS
from curate.config import (
    BuildConfig,
    DiffConfig,
    DoctorConfig,
    ExplainConfig,
    ExportConfig,
    LedgerConfig,
    MixConfig,
    PullConfig,
    PushConfig,
    ScreenConfig,
    ShowConfig,
    VerifyConfig,
)
from curate.flags import (
    Parser,
    add_flags,
    given_fields,
    print_json,
    print_lines,
    print_result,
    read_config,
    run_command,
    show_notes,
)

EITHER = {"redact": "drop_personal_data", "drop_personal_data": "redact"}
"""Pairs of settings that exclude each other: the one given now counts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run_command(run, argv)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser("curate", description="Make, screen and mix preference pairs.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in ("build", "screen"):
        add_command(commands, name, *COMMANDS[name])
    review = commands.add_parser("review", help=REVIEW, description=REVIEW, allow_abbrev=False)
    of_review = review.add_subparsers(metavar="COMMAND", required=True)
    for name, (config, command) in REVIEW_COMMANDS.items():
        add_command(of_review, name, config, command)
    for name in ("mix", "export", "verify", "diff", "push", "pull", "explain", "show", "ledger", "doctor"):
        add_command(commands, name, *COMMANDS[name])
    return parser


def add_command(commands: Any, name: str, config: type[Any], command: Callable[[Any, bool], int]) -> None:
    """A command with one flag for each field of its config."""
    about = (config.__doc__ or "").strip()
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    add_flags(parser, config)
    parser.set_defaults(command=command, config=config)


def run(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    show_notes("curate")
    known = last_thresholds(arguments) if arguments.config is ScreenConfig else {}
    cfg = read_config(arguments.config, arguments, known)
    if isinstance(cfg, BuildConfig):
        from curate.pipeline.build import as_screened

        cfg = as_screened(cfg, given_fields(BuildConfig, arguments))
    return int(arguments.command(cfg, arguments.json))


def last_thresholds(arguments: argparse.Namespace) -> dict[str, Any]:
    """The thresholds of a build's last screening, unless `--defaults` is given."""
    from curate.pipeline.rescreen import last_thresholds

    given = read_config(ScreenConfig, arguments)
    if given.defaults:
        return {}
    known = last_thresholds(given.data, given.name)
    return known | {name: False for name, other in EITHER.items() if getattr(given, other)}


def build_command(cfg: BuildConfig, as_json: bool) -> int:
    from curate.ledger.prices import usd
    from curate.pipeline.build import build
    from curate.pipeline.summary import FLAW_COLUMNS

    if cfg.dry_run:
        return dry_run_command(cfg, as_json)
    built = build(cfg)
    code = 1 if built.short or not built.counts.kept else 0
    if as_json:
        print_json(built.summary())
        return code
    lines = built.counts.lines()
    lines += [built.hint] if built.hint else []
    lines += align_columns([FLAW_COLUMNS, *(flaw.cells() for flaw in built.flaws)]) if built.flaws else []
    names = [model.model if model else "-" for model in (built.models.generator, built.models.scorer)]
    made = f"{built.calls} calls made, {built.reused_calls} reused"
    if built.repeated_calls:
        made += f"; {built.repeated_calls} calls were made only for responses that had been truncated"
    cost = "cost unknown" if built.cost_usd is None else usd(built.cost_usd)
    lines.append(
        f"build '{built.name}': generator {names[0]}, scorer {names[1]}; {made}; {cost}, {built.seconds:.1f} s"
    )
    print_lines(lines)
    return code


def screen_command(cfg: ScreenConfig, as_json: bool) -> int:
    from curate.pipeline.rescreen import rescreen

    return print_result(rescreen(cfg), as_json)


def dry_run_command(cfg: BuildConfig, as_json: bool) -> int:
    from curate.cli.forecast_table import forecast_lines
    from curate.pipeline.forecast.forecast import forecast

    found = forecast(cfg)
    if as_json:
        print_json(found.summary())
    else:
        print_lines(forecast_lines(found))
    return 0


def mix_command(cfg: MixConfig, as_json: bool) -> int:
    from curate.mix.mix import mix

    return print_result(mix(cfg), as_json)


def export_command(cfg: ExportConfig, as_json: bool) -> int:
    from curate.mix.export.export import export

    return print_result(export(cfg), as_json)


def verify_command(cfg: VerifyConfig, as_json: bool) -> int:
    from curate.mix.verify.verify import verify

    verified = verify(cfg)
    print_result(verified, as_json)
    return 0 if verified.is_good else 1


def diff_command(cfg: DiffConfig, as_json: bool) -> int:
    from curate.mix.diff.diff import diff

    return print_result(diff(cfg), as_json)


def push_command(cfg: PushConfig, as_json: bool) -> int:
    from curate.mix.hub.push import push

    pushed = push(cfg)
    print_result(pushed, as_json)
    return 1 if pushed.refused else 0


def pull_command(cfg: PullConfig, as_json: bool) -> int:
    from curate.mix.hub.pull import pull

    return print_result(pull(cfg), as_json)


def explain_command(cfg: ExplainConfig, as_json: bool) -> int:
    from curate.report.explain import explain

    return print_result(explain(cfg), as_json)


def show_command(cfg: ShowConfig, as_json: bool) -> int:
    from curate.report.show import show

    return print_result(show(cfg), as_json)


def doctor_command(cfg: DoctorConfig, as_json: bool) -> int:
    from curate.report.doctor import doctor

    checks = doctor(cfg)
    print_result(checks, as_json)
    return 0 if checks.is_good else 1


COMMANDS: dict[str, tuple[type[Any], Callable[[Any, bool], int]]] = {
    "build": (BuildConfig, build_command),
    "screen": (ScreenConfig, screen_command),
    "mix": (MixConfig, mix_command),
    "export": (ExportConfig, export_command),
    "verify": (VerifyConfig, verify_command),
    "diff": (DiffConfig, diff_command),
    "push": (PushConfig, push_command),
    "pull": (PullConfig, pull_command),
    "explain": (ExplainConfig, explain_command),
    "show": (ShowConfig, show_command),
    "ledger": (LedgerConfig, ledger_command),
    "doctor": (DoctorConfig, doctor_command),
}


if __name__ == "__main__":
    sys.exit(main())
