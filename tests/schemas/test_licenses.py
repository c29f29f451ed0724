"""Licenses are read as SPDX, taken apart into terms, and joined without repeating or losing one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.licenses import join_licenses, spdx, split_terms

ATOMS = st.sampled_from(["MIT", "CC-BY-4.0", "LicenseRef-OpenAI-Terms", "MIT OR Apache-2.0", "unknown"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("mit and apache-2.0", "MIT AND Apache-2.0"),
        ("licenseref-Acme", "LicenseRef-Acme"),
        ("", None),
        ("the MIT license", None),
        ("MIT AND", None),
        ("openrail", None),
    ],
)
def test_spdx_is_read_in_any_letters_and_nothing_else_is(text, found):
    assert spdx(text) == found


@pytest.mark.parametrize(
    ("license", "terms"),
    [
        ("MIT", ("MIT",)),
        ("MIT AND MIT AND ISC", ("MIT", "ISC")),
        ("MIT AND (Apache-2.0 OR GPL-2.0)", ("MIT", "Apache-2.0 OR GPL-2.0")),
        ("(MIT AND (ISC AND Zlib))", ("MIT", "ISC", "Zlib")),
        # AND binds closer than OR, so this is a choice between MIT and the other two
        ("MIT OR Apache-2.0 AND ISC", ("MIT OR Apache-2.0 AND ISC",)),
        ("(MIT OR ISC) AND (MIT OR ISC)", ("MIT OR ISC",)),
        ("Apache-2.0 WITH LLVM-exception AND MIT", ("Apache-2.0 WITH LLVM-exception", "MIT")),
        ("unknown", ("unknown",)),
    ],
)
def test_terms_are_what_is_joined_by_and(license, terms):
    assert split_terms(license) == terms


@given(st.lists(ATOMS, min_size=1, max_size=5))
def test_joined_licenses_have_all_terms_once_unless_one_is_unknown(licenses):
    joined = join_licenses(*licenses)

    expected = ("unknown",) if "unknown" in licenses else tuple(dict.fromkeys(licenses))
    assert split_terms(joined) == expected
    assert joined == "unknown" or spdx(joined) == joined
    assert join_licenses(joined, *licenses) == joined
