"""Find what may keep pairs from being passed on: flagged personal data, unknown licenses, licenses that conflict."""

from collections.abc import Mapping

import polars as pl

from curate.mix.licenses import mix_license
from curate.models.licenses import known_terms
from curate.store.mixes import Mix
from curate.store.workspace import Workspace
from schemas.licenses import split_terms
from schemas.names import PERSONAL_DATA, UNKNOWN
from schemas.stages import StageName

REDACT = "screen {what} again with --redact or --drop-personal-data"


def mix_concerns(mix: Mix) -> dict[str, str]:
    """Concern -> one sentence, of those that a mix gives reason for."""
    lock = mix.lock
    conflicts = lock.facts.get("license", {}).get("conflicts", ())
    found = {
        "personal-data": personal_data(mix.lineage(), f"mix '{mix.name}'", "its builds", " and publish a new mix"),
        "unknown-license": unknown_licenses(lock.licenses, f"mix '{mix.name}'", " and publish a new mix"),
        "license-conflict": f"the licenses of mix '{mix.name}' conflict: {'; '.join(conflicts)}" if conflicts else "",
    }
    return {name: sentence for name, sentence in found.items() if sentence}


def build_concerns(workspace: Workspace, name: str) -> dict[str, str]:
    """The same of the pairs of a build that screening kept."""
    record, what = workspace.read_build(name), f"build '{name}'"
    screened = workspace.open_tables(record)[StageName.SCREEN_PAIRS].scan().filter(pl.col("dropped_by").is_null())
    rows = workspace.open_pairs(record).scan().join(screened, on="pair_id", how="semi").select("license").collect()
    licenses = dict(rows["license"].value_counts().sort("license").iter_rows())
    conflicts = mix_license(licenses, known_terms(workspace.data)).conflicts
    found = {
        "personal-data": personal_data(screened, what, "it"),
        "unknown-license": unknown_licenses(licenses, what),
        "license-conflict": f"the licenses of {what} conflict: {'; '.join(conflicts)}" if conflicts else "",
    }
    return {name: sentence for name, sentence in found.items() if sentence}


def personal_data(flagged: pl.LazyFrame, what: str, screened: str, then: str = "") -> str:
    """The sentence about pairs that are flagged for personal data; an empty text where there are none."""
    flags = flagged.select("pair_id", flag=pl.col("flags").cast(pl.List(pl.String))).explode("flag")
    rows = flags.filter(pl.col("flag").is_in(PERSONAL_DATA)).collect()
    if rows.is_empty():
        return ""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(rows["flag"].value_counts().iter_rows()))
    remedy = REDACT.format(what=screened)
    return f"{what} has personal data in {rows['pair_id'].n_unique()} pairs ({kinds}); {remedy}{then}"


def unknown_licenses(licenses: Mapping[str, int], what: str, then: str = "") -> str:
    """The sentence about rows of an unknown license; an empty text where there are none."""
    rows = sum(rows for license, rows in licenses.items() if UNKNOWN in split_terms(license))
    if not rows:
        return ""
    of_all = f"the license of {rows} of the {sum(licenses.values())} rows of {what} is unknown"
    return f"{of_all}; name it with curate build --license{then}"
