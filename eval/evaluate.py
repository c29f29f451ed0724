"""Evaluate a run, from prompts to a saved result: one function, read top to bottom."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.stats import RESAMPLES, detectable, detectable_at_80_power, win_rate_interval
from curate.store.session import open_session
from curate.store.store import library_versions
from curate.store.workspace import Workspace, check_name
from eval.config import EvalConfig
from eval.matchup import Matchup, selection_notes
from eval.report import (
    RESULTS,
    default_name,
    describe_findings,
    describe_verdict,
    write_report,
    write_responses,
)
from eval.sample import add_scores, eval_prompts, sample_side, score_side, side_by_side
from eval.winrate import add_outcomes, count_wins, outcome_points, refuse_equal_responses
from schemas.calls import Backend
from schemas.errors import UserError
from schemas.manifest import FORMAT

log = logging.getLogger(__name__)

CONTRACT = (
    *("run", "baseline", "judge", "n", "wins", "losses", "ties", "win_rate", "win_rate_strict"),
    *("ci95", "detectable"),
)
"""Fields of results.json in the JSON object of `--json`; the names are a contract."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that was saved."""

    results: dict[str, Any]
    """Content of results.json."""
    path: Path
    """Of results.json."""

    def summary(self) -> dict[str, Any]:
        """The JSON object of `evaluate --json`; the names are a contract."""
        return {**{name: self.results[name] for name in CONTRACT}, "results": str(self.path)}

    def lines(self) -> list[str]:
        """The result for people to read; reasons not to trust it come first."""
        facts = describe_findings(self.results)
        width = max(map(len, facts))
        run, baseline, judge = (self.results[name] for name in ("run", "baseline", "judge"))
        return [
            *self.results["notes"],
            f"{run} against {baseline}, judged by {judge}: {describe_verdict(self.results)}",
            *(f"  {fact:{width}}  {value}" for fact, value in facts.items()),
            str(self.path),
        ]


@dataclass(frozen=True)
class Responded:
    """Responses of a run that were written to a leaderboard file."""

    run: str
    prompts: int
    responses: int
    unanswered: dict[str, int]
    """Reason -> prompts."""
    file: Path

    def summary(self) -> dict[str, Any]:
        """The JSON object of `evaluate --responses-only --json`."""
        return {**asdict(self), "file": str(self.file)}

    def lines(self) -> list[str]:
        unanswered = "".join(f", {count} {reason}" for reason, count in self.unanswered.items())
        return [f"{self.file}: {self.responses} responses of {self.run} to {self.prompts} prompts{unanswered}"]


def evaluate(cfg: EvalConfig, sides: Matchup) -> Evaluated:
    """Sample both sides, judge, count and save.

    Raises UserError when the run's responses are all the baseline's, and when nothing could be judged.
    """
    validate_eval(cfg)
    baseline_seed = cfg.seed if cfg.baseline_seed is None else cfg.baseline_seed
    if sides.is_same_model and baseline_seed == cfg.seed:
        raise UserError(f"'{sides.run}' is on both sides with one seed; give --baseline-seed to see what chance does")
    name = cfg.name or default_name(sides.run, sides.baseline)
    notes = selection_notes(sides, cfg.data)
    started = time.monotonic()
    with open_session(cfg.data) as session:
        prompts = eval_prompts(cfg, session.store)
        log.info(
            "%s against %s, judge %s; %s", sides.run, sides.baseline, sides.judge.model, describe_power(prompts.rows)
        )
        ours = sample_side(cfg, session, prompts, sides.run_model, cfg.seed)
        theirs = sample_side(cfg, session, prompts, sides.baseline_model, baseline_seed)
        paired = side_by_side(prompts, ours, theirs)
        if not sides.is_same_model:
            refuse_equal_responses(paired, sides.run, sides.baseline)
        scores = [score_side(session, prompts, table, sides.judge) for table in (ours, theirs)]
        tally = session.recorder.tally
    judged = add_outcomes(add_scores(paired, *scores))
    counts = count_wins(judged)
    if not counts.n:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in counts.unjudged.items())
        raise UserError(f"none of {judged.height} prompts could be judged: {reasons}")
    folder = Workspace(cfg.data).eval(name)
    results = {
        "format": FORMAT,
        "name": name,
        "notes": notes,
        "run": sides.run,
        "baseline": sides.baseline,
        "judge": sides.judge.model,
        **asdict(counts),
        "win_rate": counts.win_rate,
        "win_rate_strict": counts.win_rate_strict,
        "ci95": win_rate_interval(outcome_points(judged), cfg.seed),
        "detectable": detectable(counts.n),
        "dropped_rows": prompts.dropped,
        "digests": {
            "run": sides.run_model.digest,
            "baseline": sides.baseline_model.digest,
            "judge": sides.judge.digest,
            "prompts": prompts.identity,
        },
        "sampling": {
            **{field: getattr(cfg, field) for field in ("temperature", "top_p", "max_tokens", "seed")},
            "baseline_seed": baseline_seed,
            "engine": cfg.engine,
        },
        "resamples": RESAMPLES,
        "versions": library_versions(),
    }
    write_report(folder, results, judged)
    log.info(
        "eval %s: %d calls made, %d reused, %.1f s",
        name,
        tally.calls,
        tally.reused_calls,
        time.monotonic() - started,
    )
    return Evaluated(results, folder / RESULTS)


def respond(cfg: EvalConfig, run: str, model: Backend, path: Path) -> Responded:
    """Sample the run alone and write a leaderboard file."""
    validate_eval(cfg)
    with open_session(cfg.data) as session:
        prompts = eval_prompts(cfg, session.store)
        candidates = sample_side(cfg, session, prompts, model, cfg.seed)
    write_responses(path, side_by_side(prompts, candidates, candidates), run)
    return Responded(run, prompts.rows, candidates.rows, candidates.dropped, path)


def validate_eval(cfg: EvalConfig) -> None:
    """Validate the config before anything is read or asked."""
    if cfg.name:
        check_name("--name", cfg.name, [path.name for path in Workspace(cfg.data).evaluation_folders()])


def describe_power(n: int) -> str:
    """Minimum detectable difference of `n` prompts, and that at 80% power, in words."""
    half_width, found = detectable(n), detectable_at_80_power(n)
    if half_width is None or found is None or half_width > 0.5:
        return f"{n} prompts are too few to show any difference"
    least = f"minimum detectable difference with {n} prompts: {100 * half_width:.1f} points from 50%"
    if found > 0.5:
        return f"{least}; less than 80% power even for a side that always wins"
    return f"{least}; 80% power to detect {100 * found:.1f} points"
