"""Read rows of one file, of the kind that its ending tells."""

import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from curate.files import file_sha256
from curate.sources import json_stream
from curate.sources.lines import DELIMITERS, json_line, prompt_line, table_rows, text_lines
from curate.sources.packing import PACKINGS, open_seekable, open_text, open_unpacked, packing_of, told_of_no_room
from curate.sources.row import LONGEST, BadRow, Row, pickled
from schemas.errors import UserError

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")

Rows = Iterator[Row | BadRow]
Order = Callable[[int], list[int]]
"""The positions to read of so many rows."""


def ending_of(name: str) -> str:
    """The ending that tells the kind of a file, whether packed or not; empty where it is none of `ENDINGS`."""
    name = name.lower()
    name = name.removesuffix(packing_of(name))
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def expected_files() -> str:
    """The endings that can be read, in words."""
    *most, last = ENDINGS
    return f"{', '.join(most)} or {last}, also with {' or '.join(PACKINGS)} behind it"


@dataclass(frozen=True)
class FileSource:
    """A file of rows."""

    name: str
    """Its path."""

    def digest(self) -> str:
        """Digest of its bytes."""
        return file_sha256(Path(self.name))

    def rows(self) -> Rows:
        """All rows as they lie, read as they are asked for."""
        if not (parse := self._line_parser()):
            yield from self._other_rows()
            return
        with open_text(self.name) as stream:
            for _, line in text_lines(stream):
                yield parse(line)

    def shuffled(self, order: Order) -> Rows:
        """The rows in another order; the whole file is read, but not held in memory."""
        if not (parse := self._line_parser()):
            yield from reordered(self._other_rows(), order)
            return
        with open_text(self.name) as stream, open_seekable(stream) as lines:
            starts = array("q", (start for start, _ in text_lines(lines)))
            for index in order(len(starts)):
                lines.seek(starts[index])
                yield parse(lines.readline(LONGEST))

    def _line_parser(self) -> Callable[[bytes], Row | BadRow] | None:
        """How a line is read as a row; None where rows are not lines."""
        match ending_of(self.name):
            case ".txt":
                return prompt_line
            case ".jsonl" | ".ndjson" | ".json" if self._layout == "lines":
                return json_line
        return None

    @cached_property
    def _layout(self) -> json_stream.Layout:
        with self._told_of_json():
            return json_stream.find_layout(self._open_decoded, is_of_lines=ending_of(self.name) != ".json")

    def _other_rows(self) -> Rows:
        match ending_of(self.name):
            case ".csv" | ".tsv" as ending:
                with self._open_decoded() as text:
                    yield from table_rows(text, "\t" if ending == ".tsv" else DELIMITERS, self.name)
            case ".parquet" | ".arrow" | ".feather" as ending:
                # imported where it is needed, for it takes a while
                from curate.sources.arrow_rows import arrow_rows, parquet_rows

                read = parquet_rows if ending == ".parquet" else arrow_rows
                with open_unpacked(self.name) as stream, open_seekable(stream) as file:
                    yield from read(file, self.name)
            case _:
                with self._told_of_json():
                    yield from json_stream.document_rows(self._layout, self._open_decoded, self.name)

    @contextmanager
    def _open_decoded(self) -> Iterator[TextIO]:
        """The file as text with its line ends; what is no UTF-8 comes as surrogates."""
        with open_text(self.name) as stream:
            yield TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")

    @contextmanager
    def _told_of_json(self) -> Iterator[None]:
        try:
            yield
        except json_stream.NotJson as error:
            raise UserError(
                f"{self.name} is no JSON that holds rows ({error}); expected an array of objects, one object a line, "
                "or an object with a list of them"
            ) from error


def reordered(rows: Rows, order: Order) -> Rows:
    """Rows in another order; all but the one read now lie in a temporary file."""
    with tempfile.TemporaryFile() as file:
        starts = array("q", [0])
        with told_of_no_room():
            for row in rows:
                starts.append(starts[-1] + file.write(pickled(row)))
            file.flush()
        for index in order(len(starts) - 1):
            file.seek(starts[index])
            yield pickle.loads(file.read(starts[index + 1] - starts[index]))
