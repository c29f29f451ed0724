"""Manifest of a saved table: its stage, key, config, inputs, parts and digests."""

from dataclasses import asdict, dataclass
from typing import Any

from schemas.errors import UserError

FORMAT = 4
"""Raised when what is stored is written differently; any other format is refused, never guessed at."""


@dataclass(frozen=True)
class PartRecord:
    """One part of a table: its rows, its content and what it took to make."""

    rows: int
    sha256: str
    """Of the bytes of the part's rows."""
    dropped_sha256: str
    dropped: dict[str, int]
    """Reason -> rows."""
    calls: int
    """Calls to models behind the part, whether made for it or found in the ledger."""
    failed_calls: int
    """Calls that may go through another time; a part with any is made again on the next run."""
    input_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True)
class Manifest:
    """A whole table: written last, so its presence means that nothing is missing."""

    stage: str
    key: str
    config: dict[str, Any]
    inputs: list[str]
    """`key:sha256` of each table it was made from."""
    sha256: str
    """Of the digests of all parts, in order."""
    parts: list[PartRecord]
    versions: dict[str, str]
    """Library -> version that made the rows."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Manifest":
        """The manifest from the JSON of `to_json`."""
        parts = [PartRecord(**part) for part in value["parts"]]
        return cls(**{**value, "parts": parts})


def refuse_other_format(found: int, where: str) -> None:
    """Raises UserError for a file of a format that this version does not read."""
    if found > FORMAT:
        raise UserError(f"{where} was written by a newer pairwright (format {found}, this one reads {FORMAT}); upgrade")
    if found < FORMAT:
        raise UserError(
            f"{where} was written by an earlier pairwright (format {found}, this one reads {FORMAT}); give the command "
            "that made it again in another --data folder with a copy of ledger.sqlite: no call is repeated"
        )
