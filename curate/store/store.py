"""Run a stage or reuse its saved table, part by part; the manifest is the lineage."""

import hashlib
import io
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import dataframely as dy
import polars as pl

from curate.files import (
    Damaged,
    check_file,
    damaged_file,
    read_record,
    record_bytes,
    write_atomically,
    write_record,
)
from curate.ledger.recorder import Recorder, Tally
from curate.store.engine import run_in_order
from schemas.calls import Backend
from schemas.ids import digest
from schemas.manifest import Manifest, PartRecord
from schemas.names import UnpairedReason
from schemas.stages import StageName
from schemas.tables import Dropped

log = logging.getLogger(__name__)

PROMPTS_PER_PART = 256
RAW_LIMIT = 10_000
SHORTEST_TEXT = 16
"""Texts in the raw of a dropped row are not shortened further: where that is too long still, its start is kept."""
LONGEST_ESCAPE = 8
"""More characters than any one takes in a JSON string."""

PARTS_AT_ONCE = 4
"""Parts made at once where calls go to an endpoint: enough that some calls always wait for a slot."""
REMEDY = "give the build command again"
LIBRARIES = ("polars", "torch", "transformers", "sentence-transformers")


class Part(NamedTuple):
    """Rows a stage made, and the rows it could not use, each with a reason."""

    rows: pl.DataFrame
    dropped: pl.DataFrame


def make_frame(schema: type[dy.Schema], rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """`rows` as a frame of the schema's columns and types; no rows give an empty frame."""
    return pl.DataFrame(rows, schema=schema.create_empty().schema, orient="row")


def dropped_row(stage: str, reason: UnpairedReason, raw: str, prompt_id: str | None = None) -> dict[str, Any]:
    """One row of `Dropped`."""
    return {"stage": stage, "prompt_id": prompt_id, "reason": reason, "raw": json_of(raw)}


def json_of(text: str) -> str:
    """A text that is JSON as it is, any other as a JSON string; of at most `RAW_LIMIT` characters, by shorter texts."""
    odd: list[str] = []

    def keep_word(word: str) -> str:
        """NaN and the infinities, which are no JSON, as texts."""
        odd.append(word)
        return word

    def keep_number(word: str) -> float | str:
        """A number that no float holds as a text, for it would become an infinity."""
        return number if math.isfinite(number := float(word)) else word

    value: Any = text
    with suppress(ValueError, RecursionError):
        value = json.loads(text, parse_constant=keep_word, parse_float=keep_number)
        if not odd and len(text) <= RAW_LIMIT:
            return text
    longest = RAW_LIMIT - 2
    with suppress(RecursionError):
        while longest > SHORTEST_TEXT:
            found = dump_json(shorten_texts(value, longest))
            if len(found) <= RAW_LIMIT:
                return found
            longest //= 2
    return dump_json(text[: RAW_LIMIT // LONGEST_ESCAPE])


def dump_json(value: Any) -> str:
    """JSON that can be saved as UTF-8: half of a surrogate pair is written as its escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def shorten_texts(value: Any, longest: int) -> Any:
    """A JSON value with texts of at most so many characters."""
    if isinstance(value, str):
        return value if len(value) <= longest else f"{value[: longest - 1]}…"
    if isinstance(value, list):
        return [shorten_texts(item, longest) for item in value]
    if isinstance(value, dict):
        return {name: shorten_texts(item, longest) for name, item in value.items()}
    return value


def make_part(schema: type[dy.Schema], rows: Sequence[dict[str, Any]], dropped: Sequence[dict[str, Any]] = ()) -> Part:
    """A part from plain rows of `schema` and of `Dropped`."""
    return Part(make_frame(schema, rows), make_frame(Dropped, dropped))


@dataclass(frozen=True)
class Table:
    """A saved table: `parts` files of rows, and as many of dropped rows.

    Whatever gives rows raises Damaged where they are not what was written.
    """

    folder: Path
    manifest: Manifest
    remedy: str = REMEDY
    """The command that makes it again."""

    @property
    def identity(self) -> str:
        """Key and content: what the tables made from this one depend on."""
        return f"{self.manifest.key}:{self.manifest.sha256}"

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.manifest.parts)

    @property
    def calls(self) -> int:
        return sum(part.calls for part in self.manifest.parts)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> rows that this stage dropped."""
        reasons: Counter[str] = Counter()
        for part in self.manifest.parts:
            reasons.update(part.dropped)
        return dict(reasons)

    def whole_files(self) -> list[Path]:
        """The Parquet files of the rows, in order, each of them what was written."""
        return [self._rows_file(i) for i in range(len(self.manifest.parts))]

    def part(self, index: int) -> pl.DataFrame:
        return pl.read_parquet(self._rows_file(index), glob=False)

    def scan(self) -> pl.LazyFrame:
        """All rows, read as needed."""
        return pl.scan_parquet(self.whole_files(), glob=False)

    def scan_dropped(self) -> pl.LazyFrame:
        """All dropped rows, read as needed."""
        files = [self._dropped_file(i) for i in range(len(self.manifest.parts))]
        return pl.scan_parquet(files, glob=False)

    def damage(self) -> list[Damaged]:
        """The error of each part that is missing or not what was written."""
        found = []
        for index in range(len(self.manifest.parts)):
            try:
                self._rows_file(index)
                self._dropped_file(index)
                check_part_record(self.folder / record_name(index), self.manifest.parts[index], self.remedy)
            except Damaged as error:
                found.append(error)
        return found

    def _rows_file(self, index: int) -> Path:
        path = self.folder / part_name(index)
        check_file(path, self.manifest.parts[index].sha256, self.remedy)
        return path

    def _dropped_file(self, index: int) -> Path:
        path = self.folder / dropped_name(index)
        check_file(path, self.manifest.parts[index].dropped_sha256, self.remedy)
        return path


@dataclass(frozen=True)
class NoTable:
    """An input that was left out: a table without rows."""

    schema: type[dy.Schema]

    @property
    def identity(self) -> str:
        return f"none:{self.schema.__name__}"

    def scan(self) -> pl.LazyFrame:
        return self.schema.create_empty().lazy()


class Store:
    """The folder of tables of one data directory."""

    def __init__(self, tables: Path, recorder: Recorder) -> None:
        self.tables = tables
        self.begun: Callable[[StageName, str], None] = lambda stage, key: None
        """Called with stage and key of a table before it is made."""
        self._recorder = recorder

    def read(self, stage: StageName, run: Callable[..., Iterator[Part]], cfg: Any, writes: type[dy.Schema]) -> Table:
        """The table of a stage that has no input: `run(cfg)` gives its parts one after another."""
        return self._table(stage, cfg, (), writes, lambda _: time_parts(run(cfg)))

    def map(
        self,
        stage: StageName,
        run: Callable[..., Part],
        cfg: Any,
        *inputs: Table,
        writes: type[dy.Schema],
        **tools: Any,
    ) -> Table:
        """The table of a row-wise stage: part i comes from part i of every input and nothing else."""
        return self._table(stage, cfg, inputs, writes, lambda folder: self._mapped(run, cfg, inputs, folder, tools))

    def whole(
        self,
        stage: StageName,
        run: Callable[..., pl.DataFrame],
        cfg: Any,
        *inputs: Table | NoTable,
        writes: type[dy.Schema],
        **tools: Any,
    ) -> Table:
        """The table of a stage that needs every row: `run(*lazy_tables, cfg)` gives one part."""

        def make() -> Iterator[Part]:
            yield Part(run(*(table.scan() for table in inputs), cfg, **tools), Dropped.create_empty())

        return self._table(stage, cfg, inputs, writes, lambda _: time_parts(make()))

    def _table(
        self,
        stage: StageName,
        cfg: Any,
        inputs: tuple[Table | NoTable, ...],
        writes: type[dy.Schema],
        make_parts: Callable[[Path], "Parts"],
    ) -> Table:
        """The saved table, or a new one of the parts that `make_parts` makes for its folder."""
        config, identities = config_in_key(cfg), [table.identity for table in inputs]
        made_of: dict[str, Any] = {"stage": stage, "config": config, "inputs": identities}
        for attempt in count():
            key = digest({**made_of, "attempt": attempt} if attempt else made_of)[:16]
            folder = self.tables / stage / key
            saved, damage = find_table(folder)
            # A table with failed calls stays as it is, for a mix may be locked to it; the next attempt is another.
            if saved and any(part.failed_calls for part in saved.manifest.parts):
                continue
            if saved and not damage:
                return saved
            break
        self.begun(stage, key)
        # Closed, so that parts under way are waited for where this one cannot be written.
        with closing(make_parts(folder)) as parts, self._recorder.stage(stage):
            records = [
                part if isinstance(part, PartRecord) else save_part(folder, index, part, writes)
                for index, part in enumerate(parts)
            ]
        content = hashlib.sha256("".join(r.sha256 + r.dropped_sha256 for r in records).encode()).hexdigest()
        manifest = Manifest(stage, key, config, identities, content, records, library_versions())
        write_record(folder / "manifest.json", manifest.to_json())
        table = Table(folder, manifest)
        if damage:
            is_other = saved and saved.identity != table.identity
            log.warning("%s; made again%s", damage[0].found, ", with other content than before" if is_other else "")
        log.info(
            "%s: %s%s, %.1f s",
            stage.rows,
            f"{table.rows:,}" if table.rows else "none",
            "".join(f", {count:,} dropped as {reason}" for reason, count in sorted(table.dropped.items())),
            sum(record.seconds for record in records),
        )
        return table

    def _mapped(
        self, run: Callable[..., Part], cfg: Any, inputs: tuple[Table, ...], folder: Path, tools: dict[str, Any]
    ) -> "Parts":
        """The parts of a row-wise stage in order, or the record of one that an interrupted run left whole.

        Where calls go to an endpoint several parts are under way at once, so that it never waits for the
        last calls of a part. Each part is made of its own rows alone, so the order changes no byte.
        """
        sizes = [part.rows for part in inputs[-1].manifest.parts]
        progress = self._recorder.progress
        progress.expect(sum(sizes))

        def make(index: int) -> Made | PartRecord:
            if record := saved_part(folder, index):
                progress.expect(-sizes[index])
                return record
            progress.begin_rows(sizes[index])
            started = time.monotonic()
            recorder = self._recorder.for_part()
            with_recorder = {**tools, "recorder": recorder} if "recorder" in tools else tools
            part = run(*(table.part(index) for table in inputs), cfg, **with_recorder)
            return Made(part, recorder.tally, time.monotonic() - started)

        is_remote = any(tool.is_remote for tool in tools.values() if isinstance(tool, Backend))
        at_once = PARTS_AT_ONCE if is_remote else 1
        with closing(run_in_order(make, len(sizes), at_once, self._recorder.budget)) as in_turn:
            for size, made in zip(sizes, in_turn, strict=True):
                yield made
                if isinstance(made, Made):
                    progress.end_rows(size, made.part.rows.height if "pair_id" in made.part.rows.columns else None)


@dataclass(frozen=True)
class Made:
    """A part, and what it took to make."""

    part: Part
    spent: Tally
    seconds: float


Parts = Generator[Made | PartRecord, None, None]
"""Parts just made, and the records of those that lie there."""


def config_in_key(cfg: Any) -> dict[str, Any]:
    """The config of a stage as JSON, without the fields that change no row."""
    told = {field.name: getattr(cfg, field.name) for field in fields(cfg) if field.metadata.get("key", True)}
    # A config within a config by its fields, anything else that JSON does not know as text.
    text = json.dumps(told, default=lambda value: vars(value) if is_dataclass(value) else str(value))
    found: dict[str, Any] = json.loads(text)
    return found


def load_table(folder: Path, remedy: str = REMEDY) -> Table | None:
    """The table in `folder` if it is whole."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        return Table(folder, Manifest.from_json(read_record(path, remedy=remedy)), remedy)
    except (TypeError, KeyError) as error:
        raise damaged_file(path, error, remedy) from error


def find_table(folder: Path) -> tuple[Table | None, list[Damaged]]:
    """The table in `folder`, if there is one that can be read, and its damage."""
    try:
        saved = load_table(folder)
    except Damaged as error:
        return None, [error]
    return saved, saved.damage() if saved else []


def time_parts(parts: Iterator[Part]) -> Parts:
    """Parts that took no calls, each with its time."""
    started = time.monotonic()
    for part in parts:
        yield Made(part, Tally(), time.monotonic() - started)
        started = time.monotonic()


def saved_part(folder: Path, index: int) -> PartRecord | None:
    """The record of a part that an interrupted run left whole."""
    try:
        record = PartRecord(**read_record(folder / record_name(index)))
        check_file(folder / part_name(index), record.sha256, REMEDY)
        check_file(folder / dropped_name(index), record.dropped_sha256, REMEDY)
    except (Damaged, TypeError):
        return None
    return None if record.failed_calls else record


def check_part_record(path: Path, record: PartRecord, remedy: str) -> None:
    """Raises Damaged where the record of a part is not what the manifest of its table says."""
    content = path.read_bytes() if path.exists() else b""
    if content != record_bytes(path, asdict(record)):
        raise damaged_file(path, ValueError("it is not what was written"), remedy)


def save_part(folder: Path, index: int, made: Made, writes: type[dy.Schema]) -> PartRecord:
    """Check a part against its schema and write it; its record comes last and means that it is whole."""
    part, spent = made.part, made.spent
    rows, dropped = writes.validate(part.rows, cast=True), Dropped.validate(part.dropped, cast=True)
    rows_bytes, dropped_bytes = parquet_bytes(rows), parquet_bytes(dropped)
    counts = dropped.group_by("reason").len().sort("reason").rows()
    record = PartRecord(
        rows=rows.height,
        sha256=hashlib.sha256(rows_bytes).hexdigest(),
        dropped_sha256=hashlib.sha256(dropped_bytes).hexdigest(),
        dropped={str(reason): int(count) for reason, count in counts},
        calls=spent.calls + spent.reused_calls,
        failed_calls=spent.failed_calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        seconds=round(made.seconds, 3),
    )
    write_atomically(folder / part_name(index), rows_bytes)
    write_atomically(folder / dropped_name(index), dropped_bytes)
    write_record(folder / record_name(index), asdict(record))
    return record


def parquet_bytes(rows: pl.DataFrame) -> bytes:
    """A frame as Parquet; made in memory so that a full disk is met in one place."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", compression_level=1, statistics=False)
    return buffer.getvalue()


def part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def dropped_name(index: int) -> str:
    return f"dropped-{index:05d}.parquet"


def record_name(index: int) -> str:
    return f"part-{index:05d}.json"


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that rows can depend on."""
    return {name: version(name) for name in LIBRARIES}


@contextmanager
def stage_lines_hidden() -> Iterator[None]:
    """Leaves one line a round in place of one a stage and round."""
    stages = logging.getLogger("curate.store.store")
    before = stages.level
    stages.setLevel(logging.WARNING)
    try:
        yield
    finally:
        stages.setLevel(before)
