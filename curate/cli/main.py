"""The `curate` command: build, screen, review, mix, explain, show, ledger, doctor."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from curate.cli.columns import align_columns
from curate.cli.ledger import ledger_command
from curate.cli.review import ABOUT as REVIEW
from curate.cli.review import COMMANDS as REVIEW_COMMANDS
from curate.config import (
    BuildConfig,
    DoctorConfig,
    ExplainConfig,
    LedgerConfig,
    MixConfig,
    ScreenConfig,
    ShowConfig,
    Thresholds,
)
from curate.flags import Parser, add_flags, print_json, read_config, run_command, show_notes

EITHER = {"redact": "drop_personal_data", "drop_personal_data": "redact"}

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

LISTED = ("rows_in", "kept", "generator", "scorer", "rows", "train", "heldout", "sha256", "kind", "base")
"""What `curate show` tells of a build, a mix or a run in one line."""


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
    for name in ("mix", "explain", "show", "ledger", "doctor"):
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
    return int(arguments.command(read_config(arguments.config, arguments, known), arguments.json))


def last_thresholds(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a build that is screened again was screened by, where the defaults were not asked for."""
    from curate.pipeline.rescreen import last_thresholds

    given = read_config(ScreenConfig, arguments)
    if given.defaults:
        return {}
    known = last_thresholds(given.data, given.name)
    # Of two that exclude each other the one that is given now counts.
    return known | {name: False for name, other in EITHER.items() if getattr(given, other)}


def build_command(cfg: BuildConfig, as_json: bool) -> int:
    from curate.ledger.prices import usd
    from curate.pipeline.build import build
    from curate.pipeline.rescreen import nothing_kept_hint

    if cfg.dry_run:
        return dry_run_command(cfg, as_json)
    built = build(cfg)
    summary = built.summary()
    print("\n".join(count_lines(summary)))
    if way_out := nothing_kept_hint(built):
        print(way_out)
    elif not summary["kept"] and summary["dropped"]:
        reason, rows = max(summary["dropped"].items(), key=lambda item: item[1])
        raised = "; a larger --max-tokens lets responses end" if reason == "truncated" else ""
        print(f"no pair was kept; {reason} dropped {rows} of {summary['rows_in']}{raised}")
    if summary["flaws"]:
        print("\n".join(flaw_lines(summary["flaws"])))
    who = f"generator {summary['generator'] or '-'}, scorer {summary['scorer'] or '-'}"
    made = f"{summary['calls']} calls made, {summary['reused_calls']} reused"
    if summary["repeated_calls"]:
        made += f"; {summary['repeated_calls']} calls were made only for responses that had been cut"
    cost = "cost unknown" if summary["cost_usd"] is None else usd(summary["cost_usd"])
    print(f"build '{summary['name']}': {who}; {made}; {cost}, {summary['seconds']:.1f} s")
    if as_json:
        print_json(summary)
    return 1 if summary["short"] else 0


def count_lines(summary: dict[str, Any]) -> list[str]:
    """Rows in, rows dropped for each reason, rows kept, and what the kept ones are flagged for."""
    width = max(len(name) for name in (*summary["dropped"], *summary["flags"], "rows in"))
    lines = [f"  {'rows in':{width}}  {summary['rows_in']:>9,}"]
    lines += [f"- {reason:{width}}  {rows:>9,}" for reason, rows in summary["dropped"].items()]
    lines += [f"= {'kept':{width}}  {summary['kept']:>9,}"]
    lines += [f"? {flag:{width}}  {rows:>9,}" for flag, rows in summary["flags"].items()]
    return lines


def screen_command(cfg: ScreenConfig, as_json: bool) -> int:
    from curate.pipeline.rescreen import rescreen

    screened = rescreen(cfg)
    summary = screened.summary()
    print(mask_control("\n".join(waterfall_lines(summary))))
    if screened.swapped:
        print(f"{screened.swapped:>9,}          turned round by people")
    print(f"build '{cfg.name}': {summary['kept']:,} of {summary['pairs']:,} pairs kept, {summary['seconds']:.1f} s")
    if as_json:
        print_json(summary)
    return 0


def waterfall_lines(summary: dict[str, Any]) -> list[str]:
    """Each rule with its count, its share and the first pairs that it dropped; then what is kept and flagged."""
    changed = [format_threshold(name, value) for name, value in summary["thresholds"].items()]
    lines = [" ".join(["thresholds:", *filter(None, changed)])] if any(changed) else []
    lines.append(f"{summary['pairs']:>9,}          pairs")
    for rule in summary["rules"]:
        moved = f" ({rule['threshold']})" if rule["threshold"] else ""
        lines.append(f"{-rule['dropped']:>9,}  {rule['share']:>6.1%}  {rule['rule']}{moved}: {rule['looks_at']}")
        for example in rule["examples"]:
            lines.append(f"{'':21}{example['pair_id']}")
            lines += [f"{'':23}{text:8}  {example[text]}" for text in ("prompt", "chosen", "rejected")]
    share = summary["kept"] / summary["pairs"] if summary["pairs"] else 0.0
    lines.append(f"{summary['kept']:>9,}  {share:>6.1%}  kept")
    lines += [f"{rows:>9,}          of them flagged {flag}" for flag, rows in summary["flags"].items()]
    return [*lines, summary["way_out"]] if summary["way_out"] else lines


def format_threshold(name: str, value: Any) -> str:
    """A threshold as its flag where it is not the default, else nothing."""
    flag = f"--{name.replace('_', '-')}"
    if value == getattr(Thresholds, name, None):
        return ""
    if isinstance(value, bool):
        return flag
    return " ".join(f"{flag} {item}" for item in (value if isinstance(value, list | tuple) else [value]))


def flaw_lines(flaws: list[dict[str, Any]]) -> list[str]:
    """How the flaws came out: how often the check found what was asked for, and the share wanted and kept."""
    rows = [("flaw", "severity", "asked", "check fired", "written", "kept", "wanted", "share")]
    for flaw in flaws:
        rate, share = (f"{value:.0%}" if value is not None else "-" for value in (flaw["check_rate"], flaw["share"]))
        fired = f"{flaw['fired']} of {flaw['checked']}, {rate}"
        counts = (str(flaw["asked"]), fired, str(flaw["written"]), str(flaw["kept"]))
        rows.append((flaw["flaw"], flaw["severity"], *counts, f"{flaw['quota']:.0%}", share))
    return align_columns(rows)


def dry_run_command(cfg: BuildConfig, as_json: bool) -> int:
    from curate.cli.forecast_table import bill, bill_json
    from curate.pipeline.forecast.forecast import dry_run

    estimate = dry_run(cfg)
    print(bill(estimate))
    if as_json:
        print_json(bill_json(estimate))
    return 0


def mix_command(cfg: MixConfig, as_json: bool) -> int:
    from curate.mix.mix import mix

    summary = mix(cfg).summary()
    sources = ", ".join(f"{rows} from {name}" for name, rows in summary["sources"].items())
    print(f"mix '{summary['name']}': {summary['rows']} pairs ({sources}); {summary['heldout']} held out")
    if gone := {name: summary[name] for name in ("duplicates_between_sources", "like_heldout") if summary[name]}:
        print("left out: " + ", ".join(f"{rows} {name.replace('_', ' ')}" for name, rows in gone.items()))
    print(f"{summary['path']}  sha256 {summary['sha256']}")
    if as_json:
        print_json(summary)
    return 0


def explain_command(cfg: ExplainConfig, as_json: bool) -> int:
    from curate.report.explain import explain, format_trace

    found = explain(cfg)
    print_json(found) if as_json else print(mask_control(format_trace(found)))
    return 0


def show_command(cfg: ShowConfig, as_json: bool) -> int:
    from curate.report.show import show_all, show_one

    found = show_one(cfg) if cfg.name else show_all(cfg)
    if as_json:
        print_json(found)
    elif cfg.name:
        show_pairs(found)
    else:
        show_lists(found)
    return 0


def show_pairs(found: dict[str, Any]) -> None:
    counts = {key: value for key, value in found.items() if isinstance(value, int | str) and key != "format"}
    print("  ".join(f"{key} {value}" for key, value in counts.items()))
    for pair in found["pairs"]:
        margin = "" if pair["margin"] is None else f"margin {pair['margin']:.3f}"
        state = pair.get("dropped_by") or pair.get("split") or "kept"
        margin += "".join(f"  {flag}" for flag in pair.get("flags") or ())
        print(f"\n{pair['pair_id']}  {state}  {margin}")
        for text in ("prompt", "chosen", "rejected"):
            print(mask_control(f"  {text:8}  {pair[text]}"))


def show_lists(found: dict[str, Any]) -> None:
    for kind, rows in found.items():
        print(kind)
        for row in rows:
            facts = [f"{key} {format_value(row[key])}" for key in LISTED if row.get(key) is not None]
            print(f"  {row['name']:16} {'  '.join(facts)}".rstrip())
        if not rows:
            print("  none yet")


def mask_control(text: str) -> str:
    """A text without signs that move the cursor, set a title or turn the direction of writing: it came from a model."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def format_value(value: Any) -> str:
    """A digest by its first digits, anything else as it is."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def doctor_command(cfg: DoctorConfig, as_json: bool) -> int:
    from dataclasses import asdict

    from curate.report.doctor import doctor

    checks = doctor(cfg)
    for check in checks:
        print(f"{'ok ' if check.is_good else 'BAD'}  {check.name:20} {check.found}")
    if as_json:
        print_json({"good": all(check.is_good for check in checks), "checks": [asdict(check) for check in checks]})
    return 0 if all(check.is_good for check in checks) else 1


COMMANDS: dict[str, tuple[type[Any], Callable[[Any, bool], int]]] = {
    "build": (BuildConfig, build_command),
    "screen": (ScreenConfig, screen_command),
    "mix": (MixConfig, mix_command),
    "explain": (ExplainConfig, explain_command),
    "show": (ShowConfig, show_command),
    "ledger": (LedgerConfig, ledger_command),
    "doctor": (DoctorConfig, doctor_command),
}


if __name__ == "__main__":
    sys.exit(main())
