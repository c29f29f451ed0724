"""Every path and saved name of a data folder."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from curate.files import Damaged, damaged_file, nearest_hint, read_record, write_record
from curate.store.mixes import CHECKSUMS, LOCK, RECIPE, Mix, PinnedTable, open_mix_folder
from curate.store.store import REMEDY, Table, load_table
from schemas.errors import UserError
from schemas.ids import short_id
from schemas.stages import StageName, pairs_stage

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever ending they have."""
NAME_RULE = "letters, digits, '.', '_' and '-' (at most 64)"


@dataclass(frozen=True)
class BuildRecord:
    """Record of a build, in `builds/NAME.json`: its name, and the tables it stands for."""

    name: str
    config: dict[str, Any]
    """The config of the build, without the data folder."""
    tables: dict[StageName, str]
    """Stage -> key of its table."""
    identities: dict[StageName, str]
    """Stage -> key and content of its table."""
    scorer: dict[str, Any] | None
    """How its scorer asks, rubric included, since its file may change: every call can be found again."""
    summary: dict[str, Any]
    """The JSON of `curate build --json`, updated by each screening."""
    is_rescreened: bool = False
    """Its thresholds are those of a later screening."""


class Workspace:
    """A data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ledger = data / "ledger.sqlite"
        self.tables = data / "tables"
        self.runs = data / "runs"
        self.reviews = data / "reviews"
        self.mixes = data / "mixes"
        self.builds = data / "builds"
        self.pulled = data / "pulled"
        """Mixes from the hub, each in the folder of its name."""
        self.vectors = data / "vectors"
        """Vectors of texts, by model and text."""
        self.tokens = data / "tokens"
        """Rows as tokens, by what they were made of."""
        self.references = data / "references"
        """Log-probabilities under frozen references."""
        self.reward_features = self.tables / "reward_features"
        """Features of responses that reward heads were fitted on."""
        self.prices = data / "prices.toml"
        """The user's own prices."""
        self.licenses = data / "licenses.toml"
        """The user's own licenses."""
        self.servers = data / "servers"
        """Logs of vLLM servers."""
        self.argilla = data / "argilla"
        """Database of the Argilla server that runs on this machine."""

    def build(self, name: str) -> Path:
        return self.builds / f"{name}.json"

    def unfinished(self, name: str) -> Path:
        """The record of a build that was begun and not finished."""
        return self.data / "unfinished" / f"{name}.json"

    def mix(self, name: str) -> Path:
        """The folder of a mix."""
        return self.mixes / name

    def lock(self, name: str) -> Path:
        return self.mix(name) / LOCK

    def recipe(self, name: str) -> Path:
        return self.mix(name) / RECIPE

    def export(self, name: str) -> Path:
        return self.data / "exports" / name

    def run(self, name: str) -> Path:
        return self.runs / name

    def eval(self, name: str) -> Path:
        return self.data / "evals" / name

    def review(self, name: str) -> Path:
        return self.reviews / name

    def head(self, name: str) -> Path:
        """A reward head that was trained here."""
        return self.data / "models" / name

    def noise(self, scorer: str, digest: str) -> Path:
        """The noise of a scorer; other weights are another scorer."""
        return self.data / "noise" / f"{short_id([scorer, digest])}.json"

    def evaluation_folders(self) -> list[Path]:
        return sorted(path for path in (self.data / "evals").glob("[!.]*") if path.is_dir())

    def pulled_folders(self) -> list[Path]:
        """Folders of the mixes that were pulled from the hub."""
        return sorted(path.parent for path in self.pulled.glob(f"[!.]*/{LOCK}"))

    def noise_files(self) -> list[Path]:
        return sorted((self.data / "noise").glob("*.json"))

    def heads(self) -> list[Path]:
        """Folders of the reward heads that were trained here."""
        return sorted(path for path in (self.data / "models").glob("[!.]*") if path.is_dir())

    def build_names(self) -> list[str]:
        return sorted(path.stem for path in self.builds.glob("*.json"))

    def mix_names(self) -> list[str]:
        """The mixes that were published; one whose lock is gone is damaged, and among them."""
        found = (path.parent.name for name in (LOCK, CHECKSUMS) for path in self.mixes.glob(f"[!.]*/{name}"))
        return sorted(set(found))

    def newest_mix(self) -> str:
        """The mix published last; a published lock is never written again."""
        locks = sorted(self.mixes.glob(f"[!.]*/{LOCK}"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name))
        if not locks:
            raise UserError(f"no mix in {self.mixes}; publish one with: curate mix v1 --add samples")
        return locks[-1].parent.name

    def read_build(self, name: str) -> BuildRecord:
        """The record of a build. Raises UserError for an unknown one, with the nearest name."""
        path, known = self.build(name), self.build_names()
        if name not in known:
            raise UserError(
                f"no build '{name}' in {self.builds}{unknown_hint(name, known)}; make it with: curate build"
            )
        remedy = f"give its curate build command again, with --name {name}"
        value = read_record(
            path, *(field.name for field in fields(BuildRecord) if field.default is MISSING), remedy=remedy
        )
        try:
            for field in ("tables", "identities"):
                value[field] = {StageName(stage): found for stage, found in value[field].items()}
            return BuildRecord(**value)
        except (ValueError, TypeError) as error:
            raise damaged_file(path, error, remedy) from error

    def save_build(self, record: BuildRecord) -> None:
        write_record(self.build(record.name), asdict(record))

    def open_mix(self, name: str) -> Mix:
        """A published mix. Raises UserError for an unknown one, with the nearest name."""
        known = self.mix_names()
        if name not in known:
            self.refuse_early_mix(name)
            raise UserError(f"no mix '{name}' in {self.mixes}{unknown_hint(name, known)}")
        remedy = f"make it again with: curate mix {name}"
        if not self.lock(name).exists():
            raise Damaged(f"{self.lock(name)} is missing", remedy)
        return open_mix_folder(self.mix(name), name, remedy)

    def refuse_early_mix(self, name: str) -> None:
        """Raises UserError where a mix of an earlier format has this name."""
        if (early := self.mixes / f"{name}.lock.json").exists():
            read_record(early)

    def open_table(self, stage: StageName, key: str, remedy: str = REMEDY) -> Table:
        """A table that was saved before; the `remedy` is the command that makes it again."""
        folder = self.tables / stage / key
        table = load_table(folder, remedy)
        if table is None:
            raise Damaged(f"{folder / 'manifest.json'} is missing", remedy)
        return table

    def open_tables(self, record: BuildRecord) -> dict[StageName, Table]:
        """The tables of a build, in the order they were made."""
        return {stage: self.open_table(stage, key, remake(record.name)) for stage, key in record.tables.items()}

    def open_pairs(self, record: BuildRecord) -> Table:
        """The pairs of a build that were screened."""
        stage = pairs_stage(record.tables)
        return self.open_table(stage, record.tables[stage], remake(record.name))

    def open_pinned(self, pinned: PinnedTable, build: str) -> Table:
        """The table of a build that a lock pins; refused when its content is another one now."""
        table = self.open_table(pinned.stage, pinned.identity.partition(":")[0], remake(build))
        if table.identity != pinned.identity:
            raise UserError(
                f"{table.folder} holds other rows than the mix was locked to; restore it, or publish a new mix"
            )
        return table


def remake(build: str) -> str:
    """The remedy for a damaged table of a build."""
    return f"make it again with: curate screen {build}"


def unknown_hint(name: str, known: Sequence[str]) -> str:
    """The nearest of the `known` names, or that this can be no name, for the end of an error."""
    return nearest_hint(name, known) if NAME.fullmatch(name) else f" (a name is {NAME_RULE}, no path)"


def check_name(what: str, name: str, known: Iterable[str] = ()) -> None:
    """Raises UserError for what is no name of a build, mix, run, review, evaluation or reward head on every system.

    `known` are the names that are taken: some systems take a name in other letters for one of them.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{what} '{name}' must be {NAME_RULE}, and begin with one of the first two")
    if name.endswith("."):
        raise UserError(f"{what} '{name}' ends with a dot, which Windows leaves out; choose another name")
    if DEVICE.fullmatch(name):
        raise UserError(f"{what} '{name}' is a device on Windows, not a file; choose another name")
    if other := next((other for other in known if other != name and other.lower() == name.lower()), None):
        raise UserError(
            f"{what} '{name}' is '{other}' in other letters; some systems take both for one: choose another"
        )
