"""Find the license of a source: what the user says, then what its card says, then what is known of it."""

import logging
from pathlib import Path

from curate.files import asset
from curate.models.hub import one_line
from curate.models.licenses import card_license, own_licenses, packaged_licenses, read_card, read_license
from curate.sources.fields import Fields
from curate.sources.hub import HUB_ID
from curate.sources.rows import RowsConfig
from schemas.licenses import join_licenses
from schemas.names import UNKNOWN

log = logging.getLogger(__name__)

COLUMNS = ("license", "licence")


def find_license(path: str, data: Path) -> str:
    """The license of the rows of a source that name none: that of its card, or of a table; `unknown` for none.

    `path` is as in `RowsConfig`. The user's own table comes before the card, and the packaged one after it.
    """
    names = source_names(path)
    own = own_licenses(data).datasets
    found = next((own[name] for name in names if name in own), None)
    if not found and (card := source_card(path)):
        found = card_license(card)
    known = packaged_licenses().datasets
    return found or next((known[name] for name in names if name in known), UNKNOWN)


def source_names(path: str) -> list[str]:
    """The names that a source may have in a table: as it was given, and without split and subset."""
    if Path(path).parent == asset("samples"):
        return ["samples"]
    names = [path, path.rpartition(":")[0]]
    if not Path(path).exists() and (match := HUB_ID.fullmatch(path)):
        names.append(match["repo"])
    return names


def source_card(path: str) -> str | None:
    """README.md beside a file, in a dataset folder, or of a hub dataset; None where there is none.

    Repositories of datasets have their files in a folder `data` below the card.
    """
    place = Path(path)
    if place.is_file():
        above = [place.parent.parent] if place.absolute().parent.name == "data" else []
        return next((card for folder in (place.parent, *above) if (card := read_card(folder))), None)
    for folder in (path, path.rpartition(":")[0]):
        if folder and Path(folder).is_dir():
            return read_card(Path(folder))
    match = HUB_ID.fullmatch(path)
    if match and Path(match["repo"]).is_dir():
        return read_card(Path(match["repo"]))
    return hub_card(match["repo"], match["revision"]) if match else None


def hub_card(repo: str, revision: str | None) -> str | None:
    """The card of a dataset on the hub; None where it has none, and where it can be read no more."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        return read_card(Path(hf_hub_download(repo, "README.md", repo_type="dataset", revision=revision)).parent)
    except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
        log.info("%s: its card cannot be read (%s)", repo, one_line(error))
        return None


def row_license(fields: Fields, cfg: RowsConfig) -> str:
    """The license of one row: the one given for all, else that of its own column, else that of its source.

    What a column says and nobody can read is `unknown`.
    """
    name = fields.first(COLUMNS)
    value = fields.get(name) if name else None
    if cfg.is_license_given or not value:
        return cfg.license
    texts = value if isinstance(value, list) else [value]
    found = [read_license(text) if isinstance(text, str) else None for text in texts]
    return join_licenses(*(license or UNKNOWN for license in found))
