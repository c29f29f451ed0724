"""Pairs whose answer is known, read from a file: how reviewers judge them shows how well they judge."""

from pathlib import Path

import polars as pl

from curate.sources.pairs import EXAMPLE, read_pairs
from curate.sources.rows import rows_config
from schemas.errors import UserError
from schemas.ids import pair_key


def known_pairs(path: Path, seed: int) -> pl.DataFrame:
    """`pair_id`, `messages`, `chosen` and `rejected` of each pair of a file, each once, in an order by the seed.

    `opposite_id` is the id of the pair the other way round. Raises UserError for a file that cannot be read, and for a
    row that is no pair or whose two responses are the same.
    """
    if not path.is_file():
        raise UserError(f"--gold {path}: there is no such file; it holds rows like {EXAMPLE}")
    try:
        parts = list(read_pairs(rows_config(str(path), None, seed)))
    except UserError as error:
        raise UserError(f"--gold: {error}") from error
    if bad := next((row for part in parts for row in part.dropped.iter_rows(named=True)), None):
        raise UserError(f"--gold {path}: {bad['reason']} in row {bad['raw'][:200]!r}; a row should look like {EXAMPLE}")
    pairs = pl.concat([part.rows for part in parts]).select("messages", "chosen", "rejected")
    undecided = pairs.filter(pl.col("chosen").str.strip_chars() == pl.col("rejected").str.strip_chars())
    if undecided.height:
        raise UserError(
            f"--gold {path}: both responses are the same in {undecided.height} rows, the first on "
            f"{undecided['messages'][0][-1]['content'][:80]!r}; neither can be known to be better"
        )
    ids = [
        (pair_key(messages, chosen, rejected), pair_key(messages, rejected, chosen))
        for messages, chosen, rejected in pairs.iter_rows()
    ]
    named = pairs.hstack(pl.DataFrame(ids, schema={"pair_id": pl.String, "opposite_id": pl.String}, orient="row"))
    return named.unique("pair_id", keep="first", maintain_order=True)


def refuse_pairs_of(dataset: str, keys: pl.Series, known: pl.DataFrame, path: Path) -> None:
    """Raises UserError where a known pair is, either way round, one of the dataset: people would be asked it twice."""
    of_dataset = pl.col("pair_id").is_in(keys.implode()) | pl.col("opposite_id").is_in(keys.implode())
    if (found := known.filter(of_dataset)).height:
        prompt = found["messages"][0][-1]["content"]
        raise UserError(
            f"--gold {path}: {found.height} rows are pairs of '{dataset}' itself, the first on {prompt[:80]!r}; take "
            "known answers from elsewhere"
        )
