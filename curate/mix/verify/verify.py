"""Check that a published mix is what its lock says, wherever its folder lies: files, schema, counts, splits, ids.

print("\\n".join(verify(VerifyConfig(name="v1")).lines()))
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.config import VerifyConfig
from curate.files import Damaged, check_file, nearest_hint
from curate.mix.recipe import read_recipe
from curate.mix.verify.rows import Rows, and_more, read_rows, row_sentences
from curate.mix.write import arrow_schema, mix_schema
from curate.screen.human import text_key
from curate.store.mixes import (
    CARD,
    CHECKSUMS,
    LINEAGE,
    LOCK,
    RECIPE,
    WORDS,
    Mix,
    MixLock,
    PinnedSource,
    checksums,
    open_mix_folder,
)
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.names import PERSONAL_DATA, UNKNOWN
from schemas.tables import MixLineage

REMEDY = "restore the folder, or copy or download it again"
LINEAGE_COLUMNS = ["pair_id", "split", "source", "flags", "verdict"]


@dataclass(frozen=True)
class Verified:
    """What is wrong with a mix, and what is worth knowing of it."""

    name: str
    folder: Path
    sha256: str | None
    """Of its content, where its lock can be read."""
    rows: int
    damage: list[str]
    """What is not as it was published: one sentence each, with the file and the row; the gravest first."""
    personal_data: list[str]
    """The sentence about pairs that are flagged for personal data, which may be published by name."""
    notes: list[str]

    @property
    def faults(self) -> list[str]:
        return [*self.damage, *self.personal_data]

    @property
    def is_good(self) -> bool:
        return not self.faults

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate verify --json`; the names are a contract."""
        return {
            "name": self.name,
            "path": str(self.folder),
            "sha256": self.sha256,
            "rows": self.rows,
            "good": self.is_good,
            "faults": self.faults,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """The first fault, how many more there are, and the notes."""
        notes = [f"note: {note}" for note in self.notes]
        if self.is_good:
            return [f"mix '{self.name}': {self.rows:,} pairs, verified  sha256 {self.sha256}", *notes]
        more = len(self.faults) - 1
        rest = [f"{more} more {'fault' if more == 1 else 'faults'}; --json lists them"] if more else []
        return [f"mix '{self.name}' does not verify: {self.faults[0]}", *rest, *notes]


def verify(cfg: VerifyConfig) -> Verified:
    """Check a mix of the data folder, else one that lies in a folder. Raises UserError where there is neither."""
    workspace = Workspace(cfg.data)
    known, folder = workspace.mix_names(), Path(cfg.name)
    if cfg.name in known:
        return verify_folder(workspace.mix(cfg.name), cfg.name, workspace)
    if not folder.is_dir():
        raise UserError(f"no mix '{cfg.name}' in {workspace.mixes}{nearest_hint(cfg.name, known)}, and no such folder")
    return verify_folder(folder)


def verify_folder(folder: Path, name: str = "", workspace: Workspace | None = None) -> Verified:
    """Check a mix by its folder; with the `workspace` that it was made in, also against the tables of its builds.

    With a `name` it must be that very mix. Raises UserError where the folder holds no mix or one of another format.
    """
    try:
        mix = open_mix_folder(folder, name, REMEDY)
    except Damaged as error:
        return Verified(name or folder.name, folder, None, 0, [error.found], [], [])
    except UserError:
        if (folder / LOCK).is_file() or not (folder / CHECKSUMS).is_file():
            raise
        lost = f"{folder / LOCK} is missing, so nothing says what the mix is"
        return Verified(name or folder.name, folder, None, 0, [lost], [], [])
    faults, notes = check_files(mix)
    rows = Rows()
    lineage = read_lineage(mix, faults)
    if check_schema(mix, faults):
        swaps = lineage.filter(verdict="swap")["pair_id"]
        for split, path in data_files(mix):
            faults += unreadable(path, partial(read_rows, path, split, swaps, rows))
        faults += row_sentences(rows)
        faults += check_counts(mix.lock, rows.counts)
        if rows.ids:
            ids = pl.concat(rows.ids)
            faults += [*check_splits(mix.lock, ids), *check_lineage(ids, lineage)]
            faults += check_dropped(mix.lock, ids, lineage, workspace, notes)
    personal = list(check_personal_data(lineage))
    notes += row_notes(rows, lineage)
    return Verified(mix.name, folder, mix.lock.sha256, mix.lock.rows, faults, personal, notes)


def check_files(mix: Mix) -> tuple[list[str], list[str]]:
    """Faults and notes: every file that the lock names is what was written, and there is no other; an edited card is no
    fault."""
    faults, notes, lock = [], [], mix.lock
    for name, sha256 in lock.files.items():
        try:
            check_file(mix.folder / name, sha256, mix.remedy)
        except Damaged as error:
            if name == CARD and (mix.folder / name).is_file():
                notes.append(f"{CARD} was edited since the mix was published")
            else:
                faults.append(error.found)
    path = mix.folder / CHECKSUMS
    if not path.is_file() or path.read_bytes() != checksums(lock.files):
        faults.append(f"{path} is missing, or does not say what {LOCK} says")
    for found in sorted(mix.folder.iterdir()):
        if found.name in {*lock.files, LOCK, CHECKSUMS}:
            continue
        if found.name.startswith("."):
            notes.append(f"{found.name} is no file of the mix")
        else:
            faults.append(f"{found} is no file of the mix")
    return [*faults, *check_recipe(mix)], notes


def check_recipe(mix: Mix) -> list[str]:
    """The recipe is the one that the mix was made by."""
    path = mix.folder / RECIPE
    if not path.is_file():
        return []  # told as a missing file
    try:
        recipe = read_recipe(path)
    except UserError as error:
        return [str(error)]
    if (recipe.name, recipe.sha256()) != (mix.lock.name, mix.lock.recipe_sha256):
        return [f"{path} is not the recipe that the mix was made by"]
    return []


def data_files(mix: Mix) -> list[tuple[str, Path]]:
    """Split and path of the files of rows that are there, in order."""
    return [
        (split, mix.folder / name)
        for split, word in WORDS.items()
        for name in sorted(mix.lock.files)
        if name.startswith(f"{word}-") and (mix.folder / name).is_file()
    ]


def unreadable(path: Path, read: Callable[[], object]) -> list[str]:
    """What keeps a Parquet file from being read, if anything."""
    try:
        read()
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        return [f"{path} cannot be read as Parquet ({' '.join(str(error).split())[:120]})"]
    return []


def read_lineage(mix: Mix, faults: list[str]) -> pl.DataFrame:
    """The columns of lineage that rows are held against; no rows where it is missing or has other columns."""
    path, expected, found = mix.folder / LINEAGE, arrow_schema(MixLineage), []
    if path.is_file():

        def read() -> None:
            if other := schema_difference(pq.read_schema(path), [expected]):
                faults.append(f"{path}: {other}")
            else:
                found.append(pl.DataFrame(pq.read_table(path, columns=LINEAGE_COLUMNS)))

        faults += unreadable(path, read)
    return found[0] if found else pl.DataFrame(expected.empty_table().select(LINEAGE_COLUMNS))


def check_schema(mix: Mix, faults: list[str]) -> bool:
    """Whether the files of rows have the columns of `MixRow`, all of them the same; those of calls are told apart."""
    allowed = [mix_schema(False), mix_schema(True)]
    found: list[str] = []

    def look(path: Path) -> None:
        schema = pq.read_schema(path)
        if other := schema_difference(schema, allowed):
            found.append(f"{path}: {other}")
        else:
            allowed[:] = [schema]

    for _, path in data_files(mix):
        found += unreadable(path, partial(look, path))
    faults += found
    return not found


def schema_difference(found: pa.Schema, allowed: Sequence[pa.Schema]) -> str | None:
    """The first column that is not what it must be, in words; None for none."""
    if any(found.equals(schema) for schema in allowed):
        return None
    names = allowed[0].names
    if found.names != names:
        missing = [name for name in names if name not in found.names]
        more = [name for name in found.names if name not in names]
        told = [f"column {missing[0]} is missing"] if missing else []
        told += [f"column {more[0]} is none of a mix"] if more else []
        return " and ".join(told) or "the columns stand in another order"
    other = next(field for field in found if all(field != schema.field(field.name) for schema in allowed))
    return f"column {other.name} has another type ({other.type})"


def check_counts(lock: MixLock, counts: dict[str, Counter[str]]) -> Iterator[str]:
    """Rows by split, source and license are those of the lock."""
    splits = counts["split"]
    expected: dict[str, Mapping[str, int]] = {
        "": {"": lock.rows},
        " of split ": {"train": lock.train, "heldout": lock.heldout},
        " of source ": {source.build: source.rows for source in lock.sources},
        " of license ": lock.licenses,
    }
    found: dict[str, Mapping[str, int]] = {
        "": {"": splits.total()},
        " of split ": splits,
        " of source ": counts["source"],
        " of license ": counts["license"],
    }
    for kind, numbers in expected.items():
        for name in dict.fromkeys([*numbers, *found[kind]]):
            told, has = numbers.get(name, 0), found[kind].get(name, 0)
            if told != has:
                yield f"{LOCK} tells of {told:,} rows{kind}{name}, and the files hold {has:,}"


def check_splits(lock: MixLock, ids: pl.DataFrame) -> Iterator[str]:
    """No pair comes twice, and no group lies on both sides."""
    rows = ids.select(
        "pair_id",
        "prompt_group",
        "file",
        "row",
        key=text_key(),
        is_test=pl.col("file").cast(pl.String).str.starts_with(WORDS["heldout"]),
    )
    twice = rows.filter(~pl.col("key").is_first_distinct())
    if twice.height:
        row = twice.row(0, named=True)
        other = rows.filter(pl.col("key") == row["key"]).row(0, named=True)
        both = ", and lies on both sides of the split" if other["is_test"] != row["is_test"] else ""
        yield (f"{place(row)} is the pair of {other['file']} row {other['row']}{both}{and_more(twice.height - 1)}")
    train = rows.filter(~pl.col("is_test")).select("prompt_group").unique()
    leaked = rows.filter(pl.col("is_test")).join(train, on="prompt_group", how="semi", maintain_order="left")
    if leaked.height:
        row = leaked.row(0, named=True)
        yield (
            f"{place(row)} has prompt_group {row['prompt_group']}, which training rows have as well"
            f"{and_more(leaked.height - 1)}"
        )


def check_lineage(ids: pl.DataFrame, lineage: pl.DataFrame) -> Iterator[str]:
    """Lineage has the pairs of the files, in their order, with their split and source."""
    if lineage.height != ids.height:
        yield f"{LINEAGE} has {lineage.height:,} rows, and the files of rows {ids.height:,}"
        return
    is_test = ids["file"].cast(pl.String).str.starts_with(WORDS["heldout"])
    split = pl.select(pl.when(is_test).then(pl.lit("heldout")).otherwise(pl.lit("train"))).to_series()
    own = {"pair_id": ids["pair_id"], "split": split, "source": ids["source"].cast(pl.String)}
    for name, column in own.items():
        differs = (lineage[name] != column).arg_true()
        if differs.len():
            row = ids.row(differs[0], named=True)
            other = f"{LINEAGE} row {differs[0] + 1} has {name} {lineage[name][differs[0]]}"
            yield f"{other}, and it stands for {place(row)}{and_more(differs.len() - 1)}"


def check_dropped(
    lock: MixLock, ids: pl.DataFrame, lineage: pl.DataFrame, workspace: Workspace | None, notes: list[str]
) -> Iterator[str]:
    """No row was dropped by screening; where its tables are not at hand, by what lineage says of reviewers."""
    for source in lock.sources:
        rows = ids.filter(pl.col("source") == source.build)
        screened = find_screened(source, workspace) if workspace else None
        if screened is None:
            if workspace:
                notes.append(f"the screened pairs of build '{source.build}' are not here, to hold its rows against")
            if "human_reject" in lock.thresholds(source.build).get("skip_rule", ()):
                continue
            rejected = lineage.filter(pl.col("source") == source.build, pl.col("verdict").is_in(["reject", "tie"]))
            dropped = rows.join(rejected.select("pair_id", dropped_by=pl.lit("human_reject")), on="pair_id")
        else:
            dropped = rows.join(
                screened.with_columns(is_known=True), on="pair_id", how="left", maintain_order="left"
            ).filter(pl.col("dropped_by").is_not_null() | pl.col("is_known").is_null())
        if dropped.height:
            row = dropped.row(0, named=True)
            why = f"dropped by {row['dropped_by']}" if row["dropped_by"] else "no pair of the build"
            yield f"{place(row)} was {why} in the screening of '{source.build}'{and_more(dropped.height - 1)}"


def find_screened(source: PinnedSource, workspace: Workspace) -> pl.DataFrame | None:
    """pair_id and dropped_by of the pinned screening; None where it is not what it was, or gone."""
    try:
        table = workspace.open_pinned(source.screened, source.build)
        return table.scan().select("pair_id", pl.col("dropped_by").cast(pl.String)).collect()
    except UserError:
        return None


def check_personal_data(lineage: pl.DataFrame) -> Iterator[str]:
    """No row is flagged for personal data that was not replaced."""
    kinds = pl.col("flags").list.filter(pl.element().is_in(PERSONAL_DATA))
    flagged = lineage.select("pair_id", kinds=kinds).filter(pl.col("kinds").list.len() > 0)
    if flagged.height:
        pair_id, kinds_found = flagged.row(0)
        yield (
            f"pair {pair_id} holds personal data that is not redacted ({', '.join(kinds_found)})"
            f"{and_more(flagged.height - 1)}; screen its build with --redact or --drop-personal-data, and "
            "publish a new mix"
        )


def row_notes(rows: Rows, lineage: pl.DataFrame) -> Iterator[str]:
    """What is no fault, and worth knowing."""
    flags = lineage.select(pl.col("flags").explode().drop_nulls())["flags"].value_counts().sort("flags")
    for flag, count in flags.iter_rows():
        yield f"{count:,} flagged {flag}"
    counts = {
        f"of license {UNKNOWN}": rows.counts["license"][UNKNOWN],
        "with their label swapped by reviewers": rows.swapped,
        "whose personal data was replaced, so that their ids cannot be checked": rows.redacted,
        "with an empty rejected response": rows.empty_rejected,
    }
    for told, count in counts.items():
        if count:
            yield f"{count:,} {told}"


def place(row: dict[str, Any]) -> str:
    return f"{row['file']} row {row['row']} (pair {row['pair_id']})"
