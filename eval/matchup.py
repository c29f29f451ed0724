"""Resolve run, baseline and judge, and warn of a judge that also selected training pairs."""

from dataclasses import dataclass
from pathlib import Path

from curate.files import nearest_hint
from curate.mix.public_names import public_model
from curate.models.call_options import judge_options
from curate.models.digests import file_digests
from curate.models.resolve import LazyModel, resolve_generator, resolve_scorer
from curate.store.mixes import Mix
from curate.store.runs import Run, find_run, newest_run, run_names
from curate.store.workspace import Workspace
from eval.config import EvalConfig
from schemas.calls import Backend
from schemas.errors import UserError
from schemas.ids import digest


@dataclass(frozen=True)
class Matchup:
    """The two names, the two models behind them, and the judge."""

    run: str
    baseline: str
    run_model: Backend
    baseline_model: Backend
    judge: Backend

    @property
    def is_same_model(self) -> bool:
        """One model is compared with itself."""
        return self.run == self.baseline and self.run_model.digest == self.baseline_model.digest


def resolve_matchup(cfg: EvalConfig) -> Matchup:
    """The sides by name; nothing is loaded yet. Raises UserError for a name that is none."""
    name, run = resolve_run(cfg)
    baseline = cfg.baseline or (run.base if run else "")
    if not baseline:
        raise UserError(f"'{name}' is no run, so it has no base model to compare with; name one with --baseline")
    judge = resolve_scorer(cfg.judge, cfg.data, options=judge_options(cfg))
    if judge.form == "pair":
        raise UserError(
            f"--judge {cfg.judge} compares two responses, and an evaluation scores each by itself; "
            f"name judge:{cfg.judge.partition(':')[2]}, or a reward model"
        )
    run_model, baseline_model = (engine_model(side, cfg) for side in (name, baseline))
    return Matchup(name, baseline, run_model, baseline_model, judge)


def resolve_run(cfg: EvalConfig) -> tuple[str, Run | None]:
    """The name given, or that of the newest run, and the run if it is one."""
    if not cfg.run:
        newest = newest_run(cfg.data)
        if newest is None:
            raise UserError(f"no run in {Workspace(cfg.data).runs} yet; make one with: train sft, then train dpo")
        return newest.name, newest
    run = find_run(cfg.data, cfg.run)
    if run is None and ":" not in cfg.run and cfg.run != "smollm2":
        raise UserError(f"no run '{cfg.run}' in {Workspace(cfg.data).runs}{nearest_hint(cfg.run, run_names(cfg.data))}")
    return cfg.run, run


def engine_model(name: str, cfg: EvalConfig) -> LazyModel:
    """The model called `name`, in this process or on the server of `--engine`; one with an address stays there."""
    if cfg.engine == "hf" or name.startswith(("http:", "https:", "openai:", "vllm:")):
        return resolve_generator(name, cfg.data)
    if not cfg.engine.startswith(("http://", "https://")) or "#" in cfg.engine:
        # not repeated: an address may hold a password
        raise UserError("--engine is neither hf nor the address of a server, such as http://HOST:8000/v1")
    there = resolve_generator(f"{cfg.engine}#{name.removeprefix('hf:')}", cfg.data)
    if (run := find_run(cfg.data, name)) is None:
        return there
    run.check()
    # A run may be trained again under its name: what the server said for the old weights must not be taken for it.
    together = digest([there.digest, file_digests(run.adapter)])
    return LazyModel(there.model, together, lambda: there, there.is_remote, there.price_name)


def selection_notes(sides: Matchup, data: Path) -> list[str]:
    """One sentence for each side whose training pairs the judge itself selected, or where nobody can tell.

    A judge prefers what it selected: with a correlation of 0.5 to the truth, best-of-4 wins 80% in its own
    eyes and 65% in truth.
    """
    found = []
    for name in dict.fromkeys((sides.run, sides.baseline)):
        for mix in training_mixes(name, data):
            try:
                scorers = selecting_scorers(Workspace(data).open_mix(mix))
            except UserError as error:
                found.append(
                    f"careful: whether judge {sides.judge.model} selected training pairs of '{name}' is unknown, "
                    f"for mix {mix} is gone or damaged ({error})"
                )
                continue
            if public_model(sides.judge.model) in scorers:
                found.append(
                    f"careful: judge {sides.judge.model} also selected training pairs of '{name}' (mix {mix}), "
                    "so it favors that side; name another with --judge"
                )
    return found


def training_mixes(name: str, data: Path) -> list[str]:
    """Mixes that a model was trained on: its own if it is a run, then those of the run it started from."""
    found: list[str] = []
    seen: set[str] = set()
    # A run that was trained again may have started from a run that started from it.
    while name not in seen and (run := find_run(data, name)):
        seen.add(name)
        mix = run.manifest.get("data", {}).get("mix")
        found += [mix] if mix else []
        name = run.manifest.get("policy", {}).get("name", "")
    return list(dict.fromkeys(found))


def selecting_scorers(mix: Mix) -> set[str]:
    """Scorers that selected pairs of a mix, by their public names."""
    import polars as pl

    scorers = mix.scan().select(pl.col("scorer").drop_nulls().unique())
    return set(scorers.collect()["scorer"])
