"""Read evaluation prompts, which training data must not contain, from the files of benchmarks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from curate.files import asset
from curate.sources.fields import PROMPTS, Fields
from curate.sources.messages import UnusableRow, is_text
from curate.sources.prompt_column import prompt_name
from curate.sources.prompts import read_prompt
from curate.sources.rows import BadRow, Row, raw_rows, raw_text, rows_config, shuffle_rows
from schemas.errors import UserError
from schemas.ids import normalize

WORDS_OF_A_LATER_TURN = 8
"""A later turn with fewer words ("Now make it shorter.") is said in any conversation."""


@dataclass(frozen=True)
class Benchmark:
    """The distinct prompts of one evaluation file."""

    name: str
    sha256: str
    """Of the file, or the fingerprint of the hub dataset."""
    prompts: tuple[str, ...]
    """Each turn of the person asking on its own; equal ones once."""
    places: tuple[int, ...]
    """The row of the file that each prompt stands in, from 0."""


def read_benchmarks(against: Iterable[str]) -> tuple[Benchmark, ...]:
    """The evaluation prompts that come with pairwright, then those of each file; the same content once."""
    benchmarks: dict[str, Benchmark] = {}
    for spec in (str(asset("samples", "eval_prompts.jsonl")), *against):
        benchmark = read_benchmark(spec)
        if any(other.name == benchmark.name for other in benchmarks.values()):
            benchmark = replace(benchmark, name=spec)
        benchmarks.setdefault(benchmark.sha256, benchmark)
    return tuple(benchmarks.values())


def read_benchmark(spec: str) -> Benchmark:
    """The prompts of a file, a dataset folder or a hub dataset, named after the file.

    Prompts come in the order of the rows; rows without one are passed over. Raises UserError where there is none.
    """
    cfg = rows_config(spec, None, 0)
    rows = list(raw_rows(cfg))
    prompts: dict[str, tuple[str, int]] = {}
    for place, row in sorted(zip(shuffle_rows(cfg, len(rows)), rows, strict=True), key=lambda placed: placed[0]):
        for text in asked_in(row):
            prompts.setdefault(normalize(text) or text, (text, place))
    if not prompts:
        columns = next((list(row) for row in rows if isinstance(row, dict)), None)
        found = f"columns {', '.join(columns)}" if columns else f"no JSON object, first {raw_text(rows[0])[:80]!r}"
        raise UserError(
            f"{spec} holds no evaluation prompt in its {len(rows)} rows: found {found}; expected a text in one of "
            f"{', '.join(PROMPTS)}, or pairs; name another file with --decontaminate"
        )
    texts, places = zip(*prompts.values(), strict=True)
    # A hub dataset is identified by its name, a file by the end of its path.
    name = Path(spec).name if Path(spec).is_file() else cfg.path
    return Benchmark(name, cfg.sha256, texts, places)


def asked_in(row: Row | BadRow) -> list[str]:
    """The user turns of a row: the first one, and later ones that are long enough to identify."""
    try:
        first, *later = ([] if isinstance(row, BadRow) else user_turns(row)) or [""]
    except UnusableRow:
        return []
    telling = [turn for turn in later if len(normalize(turn).split()) >= WORDS_OF_A_LATER_TURN]
    return [turn for turn in (first, *telling) if turn.strip()]


def user_turns(row: Row) -> list[str]:
    """The user turns of a prompt, a conversation or a ready pair; none where the row shows nothing of these."""
    instances = row.get("instances")
    if "instruction" in row and isinstance(instances, list) and instances and isinstance(instances[0], dict):
        # Self-Instruct: the instruction with the input of its first instance
        row = {"instruction": row["instruction"], "input": instances[0].get("input")}
    fields = Fields(row)
    if prompt_name(fields) == "turns":
        # MT-Bench (text) and Arena-Hard ({"content"})
        found = fields.get("turns")
        turns = found if isinstance(found, list) else []
        texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns]
        return [text for text in texts if is_text(text)]
    return [message["content"] for message in read_prompt(row, fields) if message["role"] == "user"]
