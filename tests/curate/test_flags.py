import argparse

import pytest

from curate.cli.main import COMMANDS
from curate.cli.review import COMMANDS as REVIEW_COMMANDS
from curate.flags import add_flags

CONFIGS = [config for config, _ in (*COMMANDS.values(), *REVIEW_COMMANDS.values())]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_flag_has_a_help_text_inherited_ones_too(config):
    parser = argparse.ArgumentParser()

    add_flags(parser, config)

    texts = {action.dest: (action.help or "").partition("(default")[0].strip() for action in parser._actions}
    assert [flag for flag, text in texts.items() if not text] == []
