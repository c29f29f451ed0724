"""Which records are on a server for certain: what an interrupted push goes on from."""

import json
from pathlib import Path

from curate.review.folder import folder_of
from curate.saved import read_record
from curate.store import write_atomically
from schemas.manifest import FORMAT


def read_uploaded(data: Path, name: str) -> dict[str, set[str]]:
    """Id of a dataset -> ids of the records it was seen to hold."""
    path = path_of(data, name)
    if not path.exists():
        return {}
    return {dataset: set(records) for dataset, records in read_record(path, "records")["records"].items()}


def save_uploaded(data: Path, name: str, uploaded: dict[str, set[str]]) -> None:
    records = {dataset: sorted(ids) for dataset, ids in sorted(uploaded.items())}
    write_atomically(path_of(data, name), json.dumps({"format": FORMAT, "records": records}).encode())


def path_of(data: Path, name: str) -> Path:
    return folder_of(data, name) / "uploaded.json"
