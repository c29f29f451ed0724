"""The README says what the commands take, its transcript is that of the demo, and no page has a gap left in it."""

import re
import shlex
from pathlib import Path

import pytest

import curate.cli.main
import train.cli
from curate.config import Thresholds
from curate.screen.rules import RULES, Rule
from eval.cli import make_parser as eval_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/**/*.md")))
PARSERS = {
    "curate": curate.cli.main.make_parser,
    "train": train.cli.make_parser,
    "eval": eval_parser,
    "evaluate": eval_parser,
}
PAGES = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))]
LONG_NAMES = {"CHANGELOG"}
"""Words in capitals of eight letters and more that are no placeholder."""


def commands() -> list[str]:
    """Every command of ours in a fenced block, continued lines joined; in a transcript those after a `$`."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", README + DOCS, flags=re.MULTILINE | re.DOTALL):
        prompt = r"\$ " if re.search(r"^\$ ", block, flags=re.MULTILINE) else ""
        found += re.findall(rf"^{prompt}((?:{'|'.join(PARSERS)}) .*)$", block.replace("\\\n", " "), flags=re.MULTILINE)
    return found


def test_the_readme_shows_every_command():
    assert {shlex.split(line)[0] for line in commands()} >= {"curate", "train", "evaluate"}


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_pages_is_one_that_is_taken(line):
    name, *words = shlex.split(line, comments=True)

    PARSERS[name]().parse_args(words)


def test_the_transcript_is_that_of_the_demo():
    demo = (ROOT / "scripts" / "demo").read_text(encoding="utf-8")
    shown = [line.removeprefix("show ") for line in demo.splitlines() if line.startswith("show ")]

    printed = [line.removeprefix("$ ") for line in README.splitlines() if line.startswith("$ ")]

    assert [line.replace('"$pair"', "") for line in shown] == [
        re.sub(r"^(curate explain )[0-9a-f]{16}$", r"\1", line) for line in printed
    ]


def rules_table() -> str:
    """The rules as a Markdown table, made from their records and the defaults of `Thresholds`."""
    rows = [("rule", "drops", "threshold and default", "why there"), ("---",) * 4]
    rows += [(f"`{rule.name}`", rule.drops, default_threshold(rule), rule.note) for rule in RULES]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def default_threshold(rule: Rule) -> str:
    """The flag of a rule with its default, empty without a flag."""
    if not rule.flag:
        return ""
    default = getattr(Thresholds(), rule.threshold)
    return f"`{rule.flag}`, off" if default in (None, "") else f"`{rule.flag} {default:g}`"


def test_the_table_of_rules_is_made_from_their_records():
    table = rules_table()

    assert table in README, f"README.md does not hold this table:\n{table}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_page_holds_a_placeholder(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = re.findall(r"\b[A-Z]{8,}\b", re.sub(r"`[^`]*`", "", text))

    assert set(words) <= LONG_NAMES
