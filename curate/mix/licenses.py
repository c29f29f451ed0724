"""Say which license a mix may have as a whole, and what its rows ask for.

mix_license({"MIT": 60, "CC-BY-4.0": 40}).license  # CC-BY-4.0

One license stands for the mix where it meets the terms of all rows, as far as the table of licenses knows: a short list
of what may stand under what. What the table does not list, and terms without an SPDX id, leave it `other`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from curate.models.licenses import Terms, packaged_licenses
from schemas.licenses import REF, split_terms
from schemas.names import UNKNOWN

OTHER = "other"
"""Of a mix that no single license stands for."""


@dataclass(frozen=True)
class RowTerms:
    """Terms that some rows of a mix come under."""

    license: str
    rows: int
    note: str
    """What they ask for, where the table says so."""
    link: str


@dataclass(frozen=True)
class MixLicense:
    """The license of a mix as a whole."""

    license: str
    """One SPDX id that stands for the mix, `unknown` where nothing is known of any row, else `other`."""
    terms: tuple[RowTerms, ...]
    """All terms of its rows but unknown ones, those of most rows first."""
    conflicts: tuple[str, ...]
    """Terms that no mix can meet together, in a sentence each."""
    unknown: int
    """Rows of which nobody knows the license."""

    @classmethod
    def read(cls, summary: Mapping[str, Any]) -> "MixLicense":
        """The license of a mix from its summary, as a lock holds it."""
        terms = tuple(RowTerms(**each) for each in summary["terms"])
        return cls(summary["license"], terms, tuple(summary["conflicts"]), summary["unknown"])

    def summary(self) -> dict[str, Any]:
        """The JSON object of it; the names are a contract."""
        return {
            "license": self.license,
            "terms": [asdict(each) for each in self.terms],
            "conflicts": list(self.conflicts),
            "unknown": self.unknown,
        }

    def lines(self) -> list[str]:
        """The license, its terms, and what stands against publishing, for people to read."""
        terms = ", ".join(f"{each.license} {each.rows}" for each in self.terms)
        lines = [f"license {self.license}" + (f" (rows: {terms})" if terms else "")]
        lines += [f"  {each.license}: {each.note}" for each in self.terms if each.note]
        lines += [f"license conflict: {conflict}" for conflict in self.conflicts]
        if self.unknown:
            rows = f"{self.unknown} row{'' if self.unknown == 1 else 's'} of unknown license"
            lines.append(f"{rows}; say it with curate build --license ID, or in licenses.toml of the data folder")
        return lines


def mix_license(counts: Mapping[str, int], table: Mapping[str, Terms] | None = None) -> MixLicense:
    """The license of a mix with so many rows of each license; `table` is what is known, by default what is packaged."""
    table = packaged_licenses().terms if table is None else table
    rows: dict[str, int] = {}
    for license, count in counts.items():
        for term in split_terms(license):
            rows[term] = rows.get(term, 0) + count
    unknown = rows.pop(UNKNOWN, 0)
    ordered = sorted(rows, key=lambda term: (-rows[term], term))
    found = [RowTerms(term, rows[term], *described(table.get(term, Terms()))) for term in ordered]
    license = OTHER if unknown else standing_license(ordered, table)
    if unknown and not rows:
        license = UNKNOWN
    return MixLicense(license, tuple(found), find_conflicts(sorted(rows), table), unknown)


def described(terms: Terms) -> tuple[str, str]:
    return terms.note, terms.link


def standing_license(licenses: list[str], table: Mapping[str, Terms]) -> str:
    """The license that stands for all of these: of those that can the one that asks for least."""
    if not licenses:
        return UNKNOWN
    binding = [license for license in licenses if not table.get(license, Terms()).is_public_domain]
    if not binding:
        # what is given up to the public stands for what is given up otherwise
        return min(licenses)
    able = set.intersection(*(standing_for(license, table) for license in binding))
    # a license comes after all that it stands for
    least = [one for one in able if not any(one != other and one in standing_for(other, table) for other in able)]
    return min(least, default=OTHER)


def standing_for(license: str, table: Mapping[str, Terms]) -> set[str]:
    """The licenses that a mix with rows of this one may have as a whole; none where nobody can tell."""
    if table.get(license, Terms()).is_unchangeable or license.startswith(REF) or " " in license:
        return set()
    found, new = {license}, [license]
    while new:
        further = [name for name in table.get(new.pop(), Terms()).under if name not in found]
        found.update(further)
        new += further
    return found


def find_conflicts(licenses: list[str], table: Mapping[str, Terms]) -> tuple[str, ...]:
    """The terms that cannot be met together, as far as the table says so."""
    known = {license: table[license] for license in licenses if license in table}
    found = [
        f"{license} lets nobody share what is made of it, and a mix is made of it; leave its rows out"
        for license, terms in known.items()
        if terms.is_unchangeable
    ]
    for pair in combinations([license for license, terms in known.items() if not terms.is_unchangeable], 2):
        if is_conflict(*pair, table):
            shared, other = pair if known[pair[0]].is_share_alike else pair[::-1]
            found.append(
                f"{shared} lets the whole be shared only under itself or a compatible license, and {other} allows none "
                "of these; leave out the rows of one"
            )
    return tuple(found)


def is_conflict(one: str, other: str, table: Mapping[str, Terms]) -> bool:
    """True where one of two licenses wants the whole for itself, the other restricts it too, and nothing meets both."""
    first, second = table[one], table[other]
    if not (first.is_share_alike or second.is_share_alike):
        return False
    is_bound = all(terms.is_share_alike or terms.is_noncommercial for terms in (first, second))
    return is_bound and not standing_for(one, table) & standing_for(other, table)
