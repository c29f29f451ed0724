"""`curate ledger`: show the cost of calls; export, compact or check the ledger.

curate ledger --export calls.parquet
"""

from typing import TYPE_CHECKING

from curate.cli.columns import align_columns
from curate.config import LedgerConfig
from curate.flags import print_json, print_lines
from schemas.errors import UserError

if TYPE_CHECKING:
    from curate.ledger.maintenance import CheckedLedger, CompactedLedger
    from curate.ledger.report import CallTotals, ExportedCalls, LedgerReport

HEAD = ("day", "model", "calls", "failed", "input tokens", "output tokens", "cost")


def ledger_command(cfg: LedgerConfig, as_json: bool) -> int:
    from curate.ledger.maintenance import check_ledger, compact_ledger
    from curate.ledger.report import export_calls, report_ledger
    from curate.store.workspace import Workspace

    if (cfg.export is not None) + cfg.compact + cfg.check > 1:
        raise UserError("give one of --export, --compact and --check at a time")
    path = Workspace(cfg.data).ledger
    found: LedgerReport | ExportedCalls | CompactedLedger | CheckedLedger
    if cfg.export is not None:
        found = exported = export_calls(path, cfg.export)
        lines = [f"{exported.calls:,} calls in {exported.path}, {exported.bytes / 1e6:,.1f} MB"]
    elif cfg.compact:
        found = compacted = compact_ledger(path)
        sizes = f"{compacted.bytes_before / 1e6:,.1f} MB before, {compacted.bytes_after / 1e6:,.1f} MB after"
        dropped = f"{compacted.failed:,} failed, {compacted.abandoned:,} abandoned and {compacted.damaged:,} damaged"
        lines = [f"dropped {dropped} calls; {sizes}"]
    elif cfg.check:
        found = checked = check_ledger(path)
        lines = checked.faults or ["whole"]
    else:
        found = report = report_ledger(path)
        lines = report_lines(report)
    print_json(found.summary()) if as_json else print_lines(lines)
    return 1 if cfg.check and checked.faults else 0


def report_lines(found: "LedgerReport") -> list[str]:
    """A report for people to read."""
    rows = [HEAD] + [(row.day, row.model, *format_totals(row)) for row in found.totals]
    lines = align_columns([*rows, ("", "all", *format_totals(found.total))], names=2)
    if found.failures:
        lines += ["", "failures"]
        lines += [f"  {failure.calls:>6}  {failure.failure}: {failure.error}" for failure in found.failures]
    lines.append("")
    if found.under_way:
        lines.append(f"{found.under_way} calls under way")
    if found.never_answered:
        lines.append(f"{found.never_answered} calls never answered: those that were sent may have been charged")
    return [*lines, f"{found.path}: {found.bytes / 1e6:,.1f} MB"]


def format_totals(totals: "CallTotals") -> tuple[str, ...]:
    """The figures of a line of the report."""
    from curate.ledger.prices import usd

    cost = usd(totals.cost_usd)
    if totals.unknown_cost and totals.cost_usd is not None:
        cost += f" + unknown for {totals.unknown_cost:,} calls"
    elif not totals.calls:
        cost = usd(0.0)
    counts = (totals.calls, totals.failed, totals.input_tokens, totals.output_tokens)
    return (*(f"{count:,}" for count in counts), cost)
