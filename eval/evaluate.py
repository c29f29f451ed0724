"""An evaluation from prompts to a saved result: one function, read top to bottom."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.store.store import Store, library_versions
from curate.store.workspace import NAME
from eval.config import EvalConfig
from eval.intervals import RESAMPLES, bootstrap_interval, detectable, detectable_at_80_power
from eval.matchup import Matchup, selection_notes
from eval.report import RESULTS, default_name, write_report, write_responses
from eval.sample import add_scores, eval_prompts, sample_side, score_side, side_by_side
from eval.winrate import add_outcomes, count_wins, outcome_points, refuse_equal_responses
from schemas.calls import Backend
from schemas.errors import UserError
from schemas.manifest import FORMAT

log = logging.getLogger(__name__)


def evaluate(cfg: EvalConfig, sides: Matchup) -> dict[str, Any]:
    """Sample both sides, judge, count and save; what results.json holds, and its path as `results`.

    Raises UserError when the run's responses are all the baseline's, and when nothing could be judged.
    """
    validate_eval(cfg)
    baseline_seed = cfg.seed if cfg.baseline_seed is None else cfg.baseline_seed
    if sides.is_same_model and baseline_seed == cfg.seed:
        raise UserError(f"'{sides.run}' is on both sides with one seed; give --baseline-seed to see what chance does")
    name = cfg.name or default_name(sides.run, sides.baseline)
    notes = selection_notes(sides, cfg.data)
    started = time.monotonic()
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger)
        store = Store(cfg.data, recorder)
        prompts = eval_prompts(cfg, store)
        log.info(
            "%s against %s, judge %s; %s", sides.run, sides.baseline, sides.judge.model, describe_power(prompts.rows)
        )
        ours = sample_side(cfg, store, recorder, prompts, sides.run_model, cfg.seed)
        theirs = sample_side(cfg, store, recorder, prompts, sides.baseline_model, baseline_seed)
        paired = side_by_side(prompts, ours, theirs)
        if not sides.is_same_model:
            refuse_equal_responses(paired, sides.run, sides.baseline)
        scores = [score_side(store, recorder, prompts, table, sides.judge) for table in (ours, theirs)]
        tally = recorder.tally
    judged = add_outcomes(add_scores(paired, *scores))
    counts = count_wins(judged)
    if not counts.n:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in counts.unjudged.items())
        raise UserError(f"none of {judged.height} prompts could be judged: {reasons}")
    folder = cfg.data / "evals" / name
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
        "ci95": bootstrap_interval(outcome_points(judged), cfg.seed),
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
    return {**results, "results": str(folder / RESULTS)}


def respond(cfg: EvalConfig, run: str, model: Backend, path: Path) -> dict[str, Any]:
    """Sample the run alone and write a leaderboard file; what `--responses-only --json` prints."""
    validate_eval(cfg)
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger)
        store = Store(cfg.data, recorder)
        prompts = eval_prompts(cfg, store)
        candidates = sample_side(cfg, store, recorder, prompts, model, cfg.seed)
    write_responses(path, side_by_side(prompts, candidates, candidates), run)
    unanswered = candidates.dropped
    return {
        "run": run,
        "prompts": prompts.rows,
        "responses": candidates.rows,
        "unanswered": unanswered,
        "file": str(path),
    }


def validate_eval(cfg: EvalConfig) -> None:
    """Refuse what no evaluation can mean, before anything is read or asked."""
    if cfg.max_tokens < 1:
        raise UserError(f"--max-tokens {cfg.max_tokens} leaves no room for a response")
    if not 0 <= cfg.temperature <= 2:
        raise UserError(f"--temperature {cfg.temperature} is outside 0 to 2")
    if not 0 < cfg.top_p <= 1:
        raise UserError(f"--top-p {cfg.top_p} is outside 0 to 1")
    if cfg.baseline_seed is not None and cfg.baseline_seed < 0:
        raise UserError("--baseline-seed must be at least 0")
    if cfg.name and not NAME.fullmatch(cfg.name):
        raise UserError(f"--name '{cfg.name}' must be letters, digits, '.', '_' and '-' (at most 64)")


def describe_power(n: int) -> str:
    """The smallest difference that `n` prompts can show, in words."""
    half_width, found = detectable(n), detectable_at_80_power(n)
    if half_width is None or found is None or half_width > 0.5:
        return f"{n} prompts are too few to show any difference"
    least = f"the smallest difference {n} prompts can show is {100 * half_width:.1f} points from 50%"
    if found > 0.5:
        return f"{least}, and even a side that always wins is missed more than 1 time in 5"
    return f"{least}; a true one of {100 * found:.1f} points is found 4 times in 5"
