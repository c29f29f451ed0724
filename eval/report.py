"""Write the files of an evaluation: results.json, one line a prompt, and a table to read."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import write_atomically
from curate.store.folders import write_folder
from schemas.ids import short_id

RESULTS = "results.json"
PROMPTS = "prompts.jsonl"
TABLE = "results.md"
NAME_LIMIT = 64


def default_name(run: str, baseline: str) -> str:
    """`RUN-vs-BASELINE` as the name of a folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{run}-vs-{baseline}").strip("-.")
    # Truncated names of two evaluations must not be equal.
    return name if len(name) <= NAME_LIMIT else f"{name[: NAME_LIMIT - 17]}-{short_id([run, baseline])}"


def write_report(folder: Path, results: dict[str, Any], judged: pl.DataFrame) -> None:
    """Write the three files; results.json last, with the digests of the others: it means that all are there."""
    write_atomically(folder / PROMPTS, prompt_lines(judged).encode())
    write_atomically(folder / TABLE, format_markdown(results).encode())
    write_folder(folder / RESULTS, folder.name, results, (PROMPTS, TABLE))


def prompt_lines(judged: pl.DataFrame) -> str:
    """One JSON object a prompt: both responses, both scores, the outcome and, without one, the reason."""
    columns = ["response_run", "response_baseline", "score_run", "score_baseline", "outcome", "unjudged"]
    return json_lines(
        {"prompt": prompt_value(row["messages"]), **{name: row[name] for name in columns}}
        for row in judged.iter_rows(named=True)
    )


def write_responses(path: Path, paired: pl.DataFrame, run: str) -> None:
    """A leaderboard file: prompt, response and model of each prompt that was answered."""
    rows = paired.select("messages", "response_run").drop_nulls("response_run").rows()
    lines = json_lines(
        {"prompt": prompt_value(messages), "response": response, "model": run} for messages, response in rows
    )
    write_atomically(path, lines.encode())


def prompt_value(messages: list[dict[str, str]]) -> str | list[dict[str, str]]:
    """The text of a single user turn, else the conversation; `--prompts` reads either."""
    return messages[0]["content"] if len(messages) == 1 else messages


def json_lines(rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def format_markdown(results: dict[str, Any]) -> str:
    """The result as a page with one table."""
    notes = "".join(f"{note}\n\n" for note in results["notes"])
    title = f"# {results['run']} against {results['baseline']}, judged by {results['judge']}"
    rows = "".join(f"| {fact} | {value} |\n" for fact, value in describe_findings(results).items())
    return f"{notes}{title}\n\n{describe_verdict(results)}\n\n| | |\n|---|---|\n{rows}"


def describe_findings(results: dict[str, Any]) -> dict[str, str]:
    """Fact -> its value in words, rounded."""
    lengths = f"{results['mean_length_run']:.0f} and {results['mean_length_baseline']:.0f} characters"
    return {
        "win rate (ties count half)": f"{format_percent(results['win_rate'])}, 95% interval "
        + " to ".join(format_percent(bound) for bound in results["ci95"]),
        "win rate (ties count as losses)": format_percent(results["win_rate_strict"]),
        "wins, losses, ties": f"{results['wins']}, {results['losses']}, {results['ties']} of {results['n']} judged",
        "minimum detectable difference": f"{100 * results['detectable']:.1f} points",
        "mean length, run and baseline": lengths,
        "the longer response won": f"{results['longer_won']} of {results['decided_by_length']}",
        "without text, run and baseline": f"{results['degenerate_run']} and {results['degenerate_baseline']}",
        "not judged": ", ".join(f"{count} {reason}" for reason, count in results["unjudged"].items()) or "none",
    }


def describe_verdict(results: dict[str, Any]) -> str:
    """The conclusion from the interval, in words."""
    low, high = results["ci95"]
    if low <= 0.5 <= high:
        return "no difference shown (the 95% interval contains 50%)"
    return f"{'the run' if low > 0.5 else 'the baseline'} wins more often (the 95% interval does not contain 50%)"


def format_percent(share: float) -> str:
    return f"{100 * share:.1f}%"
