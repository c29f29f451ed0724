"""License expressions: SPDX, `LicenseRef-...` for terms without an SPDX id, or `unknown`."""

import re
from functools import lru_cache

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from schemas.names import UNKNOWN

REF = "LicenseRef-"
"""How terms begin that have no SPDX id, such as those of a service."""


@lru_cache(maxsize=4096)
def spdx(text: str) -> str | None:
    """An SPDX expression in its own letters, from one in any letters, also with blanks for the hyphens of one id.

    None for anything else.
    """
    for written in (text, re.sub(r"\s+", "-", text.strip())):
        try:
            return str(canonicalize_license_expression(written))
        except InvalidLicenseExpression:
            continue
    return None


@lru_cache(maxsize=4096)
def split_terms(license: str) -> tuple[str, ...]:
    """All terms that are to be met: what ` AND ` joins, each once; of a choice the whole choice is one."""
    parts, depth = [""], 0
    for word in re.findall(r"[()]|[^\s()]+", license):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0 and word == "OR":
            return (unwrap(license),)
        if depth == 0 and word == "AND":
            parts.append("")
        else:
            parts[-1] = f"{parts[-1]} {word}" if parts[-1] else word
    if len(parts) == 1:
        inner = unwrap(parts[0])
        return (inner,) if inner == parts[0] else split_terms(inner)
    return tuple(dict.fromkeys(term for part in parts for term in split_terms(part)))


def unwrap(license: str) -> str:
    """An expression without brackets around the whole of it."""
    text = license.replace("( ", "(").replace(" )", ")").strip()
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for place, sign in enumerate(text):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth == 0 and place < len(text) - 1:
            return text
    return unwrap(text[1:-1])


@lru_cache(maxsize=4096)
def join_licenses(*licenses: str) -> str:
    """The license of what is made of several things: all their terms, each once, in their order.

    Unknown where one of them is: nobody can say what it asks for.
    """
    terms = dict.fromkeys(term for license in licenses for term in split_terms(license))
    if not terms or UNKNOWN in terms:
        return UNKNOWN
    if len(terms) == 1:
        return next(iter(terms))
    return " AND ".join(f"({term})" if " OR " in term else term for term in terms)
