"""Published mixes made by hand, and published ones as frames and bytes."""

from pathlib import Path
from typing import Any

import polars as pl

from curate.files import file_sha256
from curate.mix.write import cast_rows, mix_schema
from curate.store.mixes import LINEAGE, MixLock, as_pairs, open_mix_folder, write_lock
from curate.store.workspace import Workspace
from schemas.ids import pair_key, prompt_group, prompt_key
from schemas.tables import MixLineage


def publish(data: Path, name: str, pairs: list[tuple[Any, str, str]], heldout: int = 0, scorers: Any = ()) -> Path:
    """Writes a mix of (prompt, chosen, rejected) with its lock; the last `heldout` rows are held out."""
    folder = Workspace(data).mix(name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [mix_row(*pair, scorer) for pair, scorer in zip(pairs, scorers or [None] * len(pairs), strict=True)]
    train = len(rows) - heldout
    for word, some in (("train", rows[:train]), ("test", rows[train:])):
        if not some:
            continue
        schema = mix_schema(has_calls=False)
        columns = {column: [row[column] for row in some] for column in schema.names}
        frame = pl.from_arrow(cast_rows(columns, schema))
        frame.write_parquet(folder / f"{word}-00000-of-00001.parquet")
    lineage = [
        {"pair_id": row["pair_id"], "split": "train" if i < train else "heldout", "source": "test", "flags": []}
        for i, row in enumerate(rows)
    ]
    frame = pl.DataFrame(lineage, schema=MixLineage.create_empty().schema).with_columns(answers=pl.lit(0, pl.UInt32))
    frame.write_parquet(folder / LINEAGE)
    lock = MixLock(
        name=name,
        recipe_sha256="",
        sources=(),
        duplicates_between_sources=0,
        like_heldout=0,
        rows=len(rows),
        train=train,
        heldout=heldout,
        files={path.name: file_sha256(path) for path in folder.glob("*.parquet")},
        licenses={"unknown": len(rows)},
    )
    write_lock(folder, lock)
    return folder


def mix_row(prompt: Any, chosen: str, rejected: str, scorer: str | None) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {
        "prompt": messages,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "tools": None,
        "prompt_id": prompt_key(messages),
        "prompt_group": prompt_group(messages),
        "pair_id": pair_key(messages, chosen, rejected),
        "source": "test",
        "score_chosen": None,
        "score_rejected": None,
        "scorer": scorer,
        "origin": "real",
        "flaw": None,
        "license": "unknown",
    }


def read_rows(folder: Path) -> pl.DataFrame:
    """Rows of a mix in training order, training rows first, with the columns of pairs, `split` and `row`."""
    return as_pairs(open_mix_folder(folder).scan()).collect().with_row_index("row")


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """File -> content."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
