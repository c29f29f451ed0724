"""Known licenses of datasets and terms of generators: the table that comes with pairwright, and the user's own."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from curate.files import asset, read_toml
from curate.models.embedded import EMBEDDED
from curate.store.runs import find_run
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.licenses import REF, join_licenses, spdx
from schemas.names import UNKNOWN

ENTRY: Mapping[str, type] = {"license": str, "source": str, "checked": str}
FLAGS = ("is_public_domain", "is_share_alike", "is_noncommercial", "is_unchangeable")
TERMS: Mapping[str, type] = {
    "under": list,
    **dict.fromkeys(FLAGS, bool),
    **dict.fromkeys(("note", "link", "source", "checked"), str),
}
"""Fields of the entries of a table, and their types."""
TABLES = ("licenses", "datasets", "generators")


@dataclass(frozen=True)
class Terms:
    """What is known of a license."""

    under: tuple[str, ...] = ()
    """Licenses that a mix with such rows may have as a whole."""
    is_public_domain: bool = False
    is_share_alike: bool = False
    """The whole may be shared only under it, or what is `under`."""
    is_noncommercial: bool = False
    is_unchangeable: bool = False
    """Nothing that is made of it may be shared."""
    note: str = ""
    """What it asks for, in a sentence."""
    link: str = ""
    """Where its text is."""


@dataclass(frozen=True)
class Licenses:
    """One table of licenses."""

    terms: dict[str, Terms] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    """Dataset -> its license."""
    generators: dict[str, str] = field(default_factory=dict)
    """Name of a generator, or its beginning and a `*` -> the terms of its responses."""
    hub: dict[str, str] = field(default_factory=dict)
    """Id of a license on the hub -> its license, where SPDX has another id."""

    def of_generator(self, names: Sequence[str]) -> str | None:
        """The terms of a generator by the first of its names that is listed, a longer pattern before a shorter one."""
        for name in names:
            if name in self.generators:
                return self.generators[name]
            patterns = [each for each in self.generators if each.endswith("*") and name.startswith(each[:-1])]
            if patterns:
                return self.generators[max(patterns, key=len)]
        return None


@cache
def packaged_licenses() -> Licenses:
    """The table that comes with pairwright."""
    content = read_toml(asset("licenses.toml"))
    return Licenses(
        terms={name: Terms(**terms_of(entry)) for name, entry in content["licenses"].items()},
        datasets={name: entry["license"] for name, entry in content["datasets"].items()},
        generators={name: entry["license"] for name, entry in content["generators"].items()},
        hub=content["hub"],
    )


def known_terms(data: Path) -> dict[str, Terms]:
    """What is known of licenses: what the user's own table says, else the packaged one."""
    return {**packaged_licenses().terms, **own_licenses(data).terms}


def own_licenses(data: Path) -> Licenses:
    """The table in the data folder; an empty one where there is none. Raises UserError for an invalid table."""
    path = Workspace(data).licenses
    # The data folder of a source checkout is where the packaged table lies.
    if not path.exists() or path.samefile(asset("licenses.toml")):
        return Licenses()
    content = read_toml(path)
    if unknown := [name for name in content if name not in (*TABLES, "version")]:
        raise UserError(f"{path}: unknown field '{unknown[0]}'; expected {', '.join(TABLES)}")
    for kind in TABLES:
        if not isinstance(content.get(kind, {}), dict):
            raise UserError(f'{path}: {kind} stand under [{kind}."NAME"]')
        for name, entry in content.get(kind, {}).items():
            check_entry(entry, f"{path}: {kind} '{name}'", TERMS if kind == "licenses" else ENTRY)
    datasets, generators = (
        {name: parse_license(entry["license"], f"{path}: {name}: ") for name, entry in content.get(kind, {}).items()}
        for kind in ("datasets", "generators")
    )
    return Licenses(
        terms={name: Terms(**terms_of(entry)) for name, entry in content.get("licenses", {}).items()},
        datasets=datasets,
        generators=generators,
    )


def check_entry(entry: Any, where: str, fields: Mapping[str, type]) -> None:
    """Raises UserError for an entry of a table that has another form."""
    if not isinstance(entry, dict) or (fields is ENTRY and "license" not in entry):
        raise UserError(f"{where} must have the fields {', '.join(fields)}, found {entry!r}")
    for name, value in entry.items():
        if name not in fields:
            raise UserError(f"{where}: unknown field '{name}'; known: {', '.join(fields)}")
        is_list_of_others = name == "under" and isinstance(value, list) and not all(isinstance(x, str) for x in value)
        if not isinstance(value, fields[name]) or is_list_of_others:
            raise UserError(f"{where}: `{name}` must be a {fields[name].__name__}, found {value!r}")


def terms_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Terms` of an entry."""
    found = {name: value for name, value in entry.items() if name in Terms.__dataclass_fields__}
    return {**found, "under": tuple(found.get("under", ()))}


@cache
def read_license(text: str) -> str | None:
    """A license from what a row, a card or a user says: SPDX, an id of the hub or `unknown`; None for anything else."""
    return packaged_licenses().hub.get(text.strip().lower()) or spdx(text)


def parse_license(text: str, where: str = "--license ") -> str:
    """A license that the user names. Raises UserError with the nearest for what is none."""
    if found := read_license(text):
        return found
    table = packaged_licenses()
    known = {name.lower(): name for name in (*table.terms, *table.hub.values(), *table.hub) if name != UNKNOWN}
    near = difflib.get_close_matches(text.strip().lower().replace(" ", "-"), known, n=1, cutoff=0.5)
    hint = f"did you mean {known[near[0]]}?" if near else "such as MIT, Apache-2.0 or CC-BY-4.0"
    raise UserError(
        f"{where}{text!r} is no SPDX license ({hint}); terms without an SPDX id are named {REF}NAME, and {UNKNOWN} is "
        "what nobody knows"
    )


def card_license(card: str) -> str | None:
    """The license that a card, README.md of a dataset or a model, has in its YAML; None where it has none.

    `unknown` where it is none that can be read. Of several all are to be met.
    """
    head = card.removeprefix("\ufeff").replace("\r\n", "\n")
    if not head.startswith("---\n"):
        return None
    try:
        said = yaml.safe_load(head[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    given = said.get("license") if isinstance(said, dict) else None
    if not given:
        return None
    texts = [str(text) for text in (given if isinstance(given, list) else [given])]
    named = said.get("license_name")
    found = [(named_license(str(named)) if text == "other" and named else read_license(text)) for text in texts]
    return join_licenses(*(license or UNKNOWN for license in found))


def named_license(name: str) -> str | None:
    """The license that a card with `license: other` names; a name of its own is taken as it stands."""
    return read_license(name) or spdx(REF + "-".join(name.replace("_", "-").split()))


def generator_terms(name: str, price_name: str | None, data: Path) -> str:
    """The terms that the responses of a generator come under; `unknown` where nobody says.

    The user's own table comes first, then the card of a model on this machine, then the packaged table. A run has the
    terms of its base model. `price_name` tells a service from another one that stands in its place.
    """
    own = own_licenses(data)
    names = [price_name or name]
    while run := find_run(data, names[-1].removeprefix("vllm:")):
        names.append(run.base)
    weights = names[-1].removeprefix("vllm:").removeprefix("hf:")
    # Behind an address it is the name that the server gives.
    names = [*names, weights, weights.rpartition("#")[2]]
    found = own.of_generator(names)
    if not found and weights in EMBEDDED:
        found = EMBEDDED[weights].license
    if not found and price_name is None and (card := model_card(weights)):
        found = card_license(card)
    return found or packaged_licenses().of_generator(names) or UNKNOWN


def model_card(weights: str) -> str | None:
    """README.md of a model folder, or of the snapshot of a hub model that was fetched; None where there is none."""
    if Path(weights).is_dir():
        return read_card(Path(weights))
    if weights.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(weights, "README.md")
    return read_card(Path(found).parent) if isinstance(found, str) else None


def read_card(folder: Path) -> str | None:
    """README.md of a folder; None where there is none, or none that is text."""
    try:
        return (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
