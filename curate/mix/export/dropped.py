"""Write what a build dropped, with the reasons: rows that became no pair, and pairs that screening dropped."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from curate.mix.export.files import Turns, open_records
from curate.mix.export.formats import ExportFormat
from curate.mix.export.records import Record
from curate.mix.export.rows import BuildSource
from schemas.stages import StageName

UNPAIRED = ("stage", "reason", "prompt_id", "raw")
REASONS = ("stage", "reason", "flags")


def write_dropped(
    source: BuildSource, form: ExportFormat, folder: Path
) -> tuple[dict[str, str], dict[str, int], Counter[str]]:
    """Writes two files; returns their names, the rows in each, and what was changed in cells."""
    parts = {
        "unpaired": (UNPAIRED, unpaired_records(source)),
        "screened out": ((*REASONS, *form.columns), screened_out(source, form)),
    }
    files, rows, changed = {}, {}, Counter[str]()
    for part, (columns, records) in parts.items():
        files[part] = f"{part.replace(' ', '_')}.{form.kind}"
        rows[part] = 0
        with open_records(folder / files[part], form.kind, columns, Turns((), call_tools=False)) as file:
            for record in records:
                rows[part] += 1
                file.add(record)
        changed += file.notes
    return files, rows, changed


def unpaired_records(source: BuildSource) -> Iterator[Record]:
    """Rows that never became a pair, with the raw text of each."""
    for row in source.unpaired_rows():
        yield {name: row[name] for name in UNPAIRED}


def screened_out(source: BuildSource, form: ExportFormat) -> Iterator[Record]:
    """Pairs that screening dropped, whatever they hold."""
    for row, reason, flags in source.dropped_pairs():
        told = {"stage": str(StageName.SCREEN_PAIRS), "reason": reason, "flags": flags}
        yield from (told | record for record in form.records(row))
