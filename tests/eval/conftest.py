"""Scripted sides of an evaluation, prompt files and finished runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scripted import ScriptedModel, responses

from curate.store.folders import write_folder
from eval.config import EvalConfig
from eval.matchup import Matchup
from schemas.calls import CallResult, Request


def last_turn(request: Request) -> str:
    return request.messages[-1]["content"]


class NamedScript(ScriptedModel):
    """A scripted model with a name and weights of its own."""

    def __init__(self, name: str, reply: Callable[[Request], CallResult]) -> None:
        super().__init__(reply)
        self.model, self.digest = name, f"{name}-weights"


@pytest.fixture
def make_sides() -> Callable[..., Matchup]:
    """Two scripted models and a judge; each is a function of the last turn, of text or, for the judge, a number."""

    def make(
        run: Callable[[str], str | CallResult] = lambda prompt: f"run: {prompt}",
        baseline: Callable[[str], str | CallResult] = lambda prompt: f"baseline: {prompt}",
        judge: Callable[[str], float | CallResult] = lambda response: float(len(response)),
    ) -> Matchup:
        def generate(say: Callable[[str], str | CallResult]) -> Callable[[Request], CallResult]:
            def reply(request: Request) -> CallResult:
                said = say(last_turn(request))
                return responses(said) if isinstance(said, str) else said

            return reply

        def score(request: Request) -> CallResult:
            given = judge(last_turn(request))
            return given if isinstance(given, CallResult) else CallResult(values=(given,))

        return Matchup(
            "policy",
            "base",
            NamedScript("policy", generate(run)),
            NamedScript("base", generate(baseline)),
            NamedScript("the-judge", score),
        )

    return make


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., EvalConfig]:
    """A config on a data folder of its own; `prompts` is a list of texts or of rows."""

    def make(prompts: list[Any] = ("One?", "Two?", "Three?", "Four?"), **given: Any) -> EvalConfig:
        path = tmp_path / "prompts.jsonl"
        rows = [{"prompt": prompt} if isinstance(prompt, str) else prompt for prompt in prompts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return EvalConfig(**{"prompts": str(path), "data": tmp_path / "data", **given})

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the adapter file and the manifest of a finished run; returns its folder."""

    def make(
        name: str,
        finished_at: str = "2026-11-01T00:00:00Z",
        mix: str = "",
        policy: str = "smollm2",
        kind: str = "dpo",
        write_adapter: Callable[[Path], object] | None = None,
    ) -> Path:
        folder = tmp_path / "data" / "runs" / name
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        (folder / "adapter" / "adapter_model.safetensors").write_bytes(f"{name} {finished_at}".encode())
        if write_adapter:
            write_adapter(folder / "adapter")
        record = {
            **{"kind": kind, "base": "smollm2", "finished_at": finished_at},
            **{"policy": {"name": policy}, "data": {"mix": mix} if mix else {"dataset": "chat.jsonl"}},
        }
        write_folder(folder / "manifest.json", name, record, ["adapter/adapter_model.safetensors"])
        return folder

    return make


@pytest.fixture
def make_paired() -> Callable[..., pl.DataFrame]:
    """Rows as `add_outcomes` takes them, from two lists of scores; texts are of equal length unless named."""

    def make(scores_run: list[float | None], scores_baseline: list[float | None], **columns: list[Any]) -> pl.DataFrame:
        count = len(scores_run)
        given = {
            "response_run": ["a run's words"] * count,
            "response_baseline": ["a base's word"] * count,
            "score_run": scores_run,
            "score_baseline": scores_baseline,
            "unjudged": [None] * count,
            **columns,
        }
        schema = {
            "response_run": pl.String,
            "response_baseline": pl.String,
            "score_run": pl.Float64,
            "score_baseline": pl.Float64,
            "unjudged": pl.String,
        }
        return pl.DataFrame(given, schema=schema)

    return make
