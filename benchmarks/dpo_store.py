"""Real pairs in the files that training reads them from."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from dpo_pairs import Pair

from train.data.token_store import FILES, MANIFEST, TokenRows, write_files
from train.data.tokenize import CHUNK, LEARNED, Encoded
from train.data.tokens import Preflight, Row, Tokens


def write_store(folder: Path, pairs: Sequence[Pair], count: int) -> dict[str, int]:
    """Write `count` rows, the pairs again and again; returns their tokens and the bytes of the files."""
    written = write_files(folder, repeated([row_of(pair, str(i)) for i, pair in enumerate(pairs)], count))
    manifest = written | {"kind": "pair", "name": f"benchmark-{count}", "rows": count}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return {"tokens": written["tokens"], "bytes": sum((folder / name).stat().st_size for name in FILES)}


def read_store(folder: Path) -> TokenRows:
    """What `write_store` wrote."""
    return TokenRows(folder, json.loads((folder / MANIFEST).read_text()))


def row_of(pair: Pair, row_id: str) -> Row:
    """A pair as the data path holds it."""
    responses = tuple(
        Tokens(np.array(ids, dtype=np.uint32), np.ones(len(ids), dtype=np.bool_))
        for ids in (pair.chosen_ids, pair.rejected_ids)
    )
    return Row(row_id, np.array(pair.prompt_ids, dtype=np.uint32), responses)


def repeated(rows: Sequence[Row], count: int) -> Iterator[Encoded]:
    """Chunks of a store, `count` rows in all."""
    for start in range(0, count, CHUNK):
        places = range(start, min(start + CHUNK, count))
        chunk = [rows[place % len(rows)] for place in places]
        parts = [
            (row.prompt, *(np.where(one.learned, one.ids | LEARNED, one.ids) for one in row.responses)) for row in chunk
        ]
        yield Encoded(
            np.concatenate([part for row in parts for part in row]),
            np.array([len(part) for row in parts for part in row], dtype=np.int64),
            [f"{place}-{row.row_id}" for place, row in zip(places, chunk, strict=True)],
            Preflight(rows=len(chunk), kept=len(chunk)),
        )
