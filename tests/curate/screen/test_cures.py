import re

import pytest

from curate.config import BuildConfig, ScreenConfig
from curate.screen.cures import CURES, cure
from curate.screen.rules import RULES
from schemas.names import DROP_REASONS

FLAGS = {
    f"--{name.replace('_', '-')}" for config in (BuildConfig, ScreenConfig) for name in config.__dataclass_fields__
}


@pytest.mark.parametrize("reason", [reason for reason in DROP_REASONS if reason != "over_quota"])
def test_every_reason_has_a_cure_whose_flags_exist(reason):
    found = cure(reason)

    assert found
    assert set(re.findall(r"--[a-z-]+", found)) <= FLAGS


def test_no_cure_is_for_a_reason_that_does_not_exist_or_that_a_threshold_moves():
    assert set(CURES) <= set(DROP_REASONS) - {rule.name for rule in RULES if rule.threshold}


def test_a_rule_is_only_said_to_be_skipped_where_it_can_be():
    cannot = {rule.name for rule in RULES if not rule.can_skip}

    assert not [reason for reason in CURES if f"--skip-rule {reason}" in CURES[reason] and reason in cannot]
