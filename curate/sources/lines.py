"""Read rows of text files: one JSON object a line, one prompt a line, or a table of comma-separated values."""

import csv
import json
from collections.abc import Iterator
from typing import IO, TextIO

from curate.sources.row import LONGEST, BadRow, Row, bad_row, is_whole_text
from schemas.errors import UserError

DELIMITERS = ",;\t|"
"""Of a .csv, the one that cuts its header into the most columns."""
LONGEST_HEADER = 2**16


def text_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Where each line starts that is not blank, and the line; one that is too long comes cut, at `LONGEST` bytes."""
    place = 0
    while line := stream.readline(LONGEST):
        start, rest = place, line
        place += len(line)
        while not rest.endswith(b"\n") and (rest := stream.readline(LONGEST)):
            place += len(rest)
        if line.strip():
            yield start, line


def json_line(line: bytes) -> Row | BadRow:
    """A line as the JSON object that it is; a byte order mark at its start is ignored."""
    line = line.rstrip(b"\r\n")
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return bad_row(line)
    return value if isinstance(value, dict) else bad_row(line)


def prompt_line(line: bytes) -> Row | BadRow:
    """A line as a prompt."""
    text = line.rstrip(b"\r\n")
    try:
        return {"prompt": text.decode("utf-8-sig")} if len(line) < LONGEST else bad_row(text)
    except UnicodeDecodeError:
        return bad_row(text)


def table_rows(stream: TextIO, delimiters: str, path: str) -> Iterator[Row | BadRow]:
    """Rows of a table with a header; an empty field is null, and every other one a text.

    `stream` keeps the ends of its lines as they are.
    """
    csv.field_size_limit(LONGEST)
    header_line = next((line for line in iter(lambda: stream.readline(LONGEST_HEADER), "") if line.strip()), "")
    if len(header_line) == LONGEST_HEADER:
        raise no_header(path)
    delimiter = max(delimiters, key=lambda each: len(next(csv.reader([header_line], delimiter=each), [])))
    row_lines = [header_line]

    def lines() -> Iterator[str]:
        yield header_line
        while line := stream.readline(LONGEST):
            if len(line) == LONGEST:
                raise UserError(f"{path} has a line of more than {LONGEST:,} characters; it is no table of texts")
            row_lines.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error).startswith(("unexpected end", "field larger")):
                raise UserError(f"{path}: a quote that opens in line {first} or later is never closed") from error
            fields = []
        if columns is None:
            columns = read_header(fields, path)
        elif len(fields) != len(columns) or not all(map(is_whole_text, fields)):
            raw = "".join(row_lines).rstrip("\r\n")
            if raw.strip():
                yield bad_row(raw)
        else:
            yield {name: field or None for name, field in zip(columns, fields, strict=True) if name}
        row_lines.clear()


def read_header(fields: list[str], path: str) -> list[str]:
    """Names of the columns; one without a name, such as the row numbers of pandas, is not read."""
    names = [field.strip() for field in fields]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UserError(f"{path} has two columns named '{twice}'; rename one of them")
    if not any(names) or not all(map(is_whole_text, names)):
        raise no_header(path)
    return names


def no_header(path: str) -> UserError:
    return UserError(f"{path} does not begin with a line of column names; add one, such as prompt,chosen,rejected")
