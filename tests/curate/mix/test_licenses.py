"""One license stands for a mix only where it meets the terms of all rows, and what nothing can meet is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.mix.licenses import OTHER, mix_license, standing_for
from curate.models.licenses import packaged_licenses

TABLE = packaged_licenses().terms
ANY = st.sampled_from(
    [*TABLE, "AFL-3.0", "LicenseRef-OpenAI-Terms", "MIT OR ISC", "unknown", "MIT AND LicenseRef-OpenAI-Terms"]
)
COUNTS = st.dictionaries(ANY, st.integers(1, 1000), max_size=5)


@pytest.mark.parametrize(
    ("licenses", "standing"),
    [
        ([], "unknown"),
        (["unknown"], "unknown"),
        (["unknown", "MIT"], OTHER),
        (["MIT"], "MIT"),
        (["AFL-3.0"], "AFL-3.0"),
        (["AFL-3.0", "MIT"], OTHER),
        (["CC0-1.0", "AFL-3.0"], "AFL-3.0"),
        (["PDDL-1.0", "CC0-1.0"], "CC0-1.0"),
        (["MIT", "BSD-3-Clause"], "Apache-2.0"),
        (["MIT", "CC-BY-4.0"], "CC-BY-4.0"),
        (["MIT AND Apache-2.0"], "Apache-2.0"),
        (["CC-BY-SA-3.0", "CC-BY-4.0"], "CC-BY-SA-4.0"),
        (["CC-BY-NC-3.0", "MIT", "CC0-1.0"], "CC-BY-NC-4.0"),
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], OTHER),
        (["CC-BY-ND-4.0"], OTHER),
        (["LicenseRef-OpenAI-Terms"], OTHER),
        (["Apache-2.0 AND LicenseRef-OpenAI-Terms"], OTHER),
        (["MIT OR ISC"], OTHER),
    ],
)
def test_license_that_stands_for_a_mix(licenses, standing):
    assert mix_license(dict.fromkeys(licenses, 1)).license == standing


@pytest.mark.parametrize(
    ("licenses", "named"),
    [
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], [("CC-BY-SA-4.0", "CC-BY-NC-4.0")]),
        (["CC-BY-NC-4.0", "CC-BY-SA-3.0 AND MIT"], [("CC-BY-SA-3.0", "CC-BY-NC-4.0")]),
        (["CC-BY-SA-4.0", "ODbL-1.0"], [("CC-BY-SA-4.0", "ODbL-1.0")]),
        (["CC-BY-ND-4.0"], [("CC-BY-ND-4.0",)]),
        (["CC-BY-SA-4.0", "GPL-3.0-only"], []),
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"], []),
        # restricts who may train what, not what the mix may be shared under
        (["CC-BY-SA-4.0 AND LicenseRef-OpenAI-Terms"], []),
        # not in the table: nobody can tell
        (["CC-BY-SA-4.0", "AFL-3.0"], []),
    ],
)
def test_conflicts_are_named_and_nothing_else_is(licenses, named):
    conflicts = mix_license(dict.fromkeys(licenses, 1)).conflicts

    assert len(conflicts) == len(named)
    assert all(license in sentence for sentence, pair in zip(conflicts, named, strict=True) for license in pair)


def test_terms_are_listed_with_their_rows_and_what_they_ask_for():
    found = mix_license({"MIT": 3, "MIT AND LicenseRef-OpenAI-Terms": 2, "unknown": 4})

    assert [(each.license, each.rows) for each in found.terms] == [("MIT", 5), ("LicenseRef-OpenAI-Terms", 2)]
    assert found.unknown == 4
    assert "compete with those of OpenAI" in found.terms[1].note
    assert any("4 rows of unknown license" in line and "--license" in line for line in found.lines())


@given(COUNTS)
def test_order_of_the_licenses_says_nothing(counts):
    assert mix_license(counts) == mix_license(dict(reversed(counts.items())))


@given(COUNTS, ANY)
def test_more_licenses_never_make_other_into_one(counts, more):
    if mix_license(counts).license == OTHER:
        assert mix_license({**counts, more: 1}).license == OTHER


@given(COUNTS)
def test_license_that_stands_for_a_mix_stands_for_each_of_its_terms(counts):
    found = mix_license(counts)

    if found.license not in (OTHER, "unknown"):
        for each in found.terms:
            free = each.license in TABLE and TABLE[each.license].is_public_domain
            assert free or found.license in standing_for(each.license, TABLE)
        assert not found.conflicts
