"""Argilla's own page in a real browser: what a reviewer sees, presses and never gets to see."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from servers.argilla_fixture import ArgillaServer

from curate.config import BuildConfig
from curate.pipeline.build import build
from curate.review.argilla.accounts import invite
from curate.review.argilla.pull import pull
from curate.review.argilla.push import push
from curate.review.config import InviteConfig, PullConfig, PushConfig
from curate.screen.human import verdicts
from curate.store.reviews import begun_review, read_answers, read_asked

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.server, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]

WORKSPACE = "page"
NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
OWN_FONTS = "https://fonts.googleapis.com/"
"""The style sheet of Argilla's page asks for its fonts there, whatever a record holds."""

SCRIPT = "Read this:\n\n<script>window.attacked = 'script'; alert('script')</script>\n\nand *that* is **all**."
PICTURE = (
    "# A title\n\n<img src=x onerror=\"window.attacked = 'picture'; alert('picture')\">\n"
    "![seen](https://example.org/seen.png) and [a link](javascript:alert('link'))\n"
    "<iframe src='https://example.org/frame'></iframe><svg onload=\"window.attacked = 'svg'\"></svg>"
)
PROMPT = "What does <b onmouseover=\"window.attacked = 'prompt'\">bold</b> do? ![asked](https://example.org/asked.png)"


@dataclass
class Tab:
    """A browser tab, what it asked for elsewhere and what popped up in it."""

    page: Any
    server: ArgillaServer
    elsewhere: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def sign_in(self, username: str, password: str) -> None:
        """By keyboard: the first field has the focus after a Tab or a click."""
        self.page.goto(f"{self.server.url}/sign-in")
        name, secret = self.page.locator("input").nth(0), self.page.locator("input").nth(1)
        name.fill(username)
        secret.fill(password)
        secret.press("Enter")
        self.page.wait_for_url(f"{self.server.url}/")

    def open_queue(self, dataset_id: str, query: str = "") -> None:
        self.page.goto(f"{self.server.url}/dataset/{dataset_id}/annotation-mode{query}")
        self.page.locator(".questions-form").wait_for()

    def texts(self) -> tuple[str, str, str]:
        """Conversation, response A and response B of the record that is shown, as read from the page."""
        turns = self.page.locator(".chat__bubble > span").all_text_contents()
        response_a, response_b = self.page.locator(".text_field_component .content-area > div").all_text_contents()
        return "\n".join(turns), response_a, response_b

    def total(self) -> int:
        return int(self.page.get_by_label("Total Records").inner_text().split()[-1])

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def submit(self) -> None:
        """Press Enter; wait until the server has the answer and the page shows another record, or that none is left."""
        before = self.texts()
        with self.page.expect_response(
            lambda answer: "/responses" in answer.url and answer.request.method in ("POST", "PUT")
        ) as answer:
            self.press("Enter")
        assert answer.value.ok, answer.value.text()
        self.page.wait_for_function(
            "seen => document.querySelector('.text_field_component .content-area > div')?.textContent !== seen",
            arg=before[1],
        )


@pytest.fixture
def tab(argilla_server: ArgillaServer) -> Iterator[Tab]:
    """A tab of a fresh browser; requests to other hosts are noted, and lead nowhere."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(15_000)
        opened = Tab(page, argilla_server)

        def note(request: Any) -> None:
            if not request.url.startswith((argilla_server.url, "data:", "blob:")):
                opened.elsewhere.append(request.url)

        def dismiss(dialog: Any) -> None:
            opened.dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("request", note)
        page.on("dialog", dismiss)
        yield opened
        browser.close()


Review = tuple[str, pl.DataFrame]
Put = Callable[..., Review]


@pytest.fixture
def put(argilla_server: ArgillaServer, tmp_path: Path) -> Put:
    """Builds a source and puts it before people; the id of the dataset and what was asked."""

    def put_one(source: str, name: str, **choice: Any) -> Review:
        build(BuildConfig(source=source, name=name, skip_rule=NO_VECTORS, data=tmp_path))
        push(PushConfig(name=name, home=argilla_server.home, workspace=WORKSPACE, data=tmp_path, overlap=0.0, **choice))
        return begun_review(tmp_path, name).datasets[name]["id"], read_asked(tmp_path, name)

    return put_one


@pytest.fixture
def reviewer(argilla_server: ArgillaServer, tmp_path: Path) -> dict[str, str]:
    """Name and password of somebody who was invited."""
    cfg = InviteConfig(
        username=f"reviewer-{next(NUMBERS)}", home=argilla_server.home, workspace=WORKSPACE, data=tmp_path
    )
    found = invite(cfg)
    return {"username": found.username, "password": found.password}


NUMBERS = itertools.count()

PRESSED = {"1": "a", "2": "b", "3": "equal", "4": "both_bad"}


def test_twelve_records_judged_by_keyboard_come_back_as_they_were_pressed(
    put: Put, reviewer: dict[str, str], tab: Tab, argilla_server: ArgillaServer, tmp_path: Path
) -> None:
    dataset_id, asked = put("samples", "keyboard", records=12)
    tab.sign_in(**reviewer)
    tab.open_queue(dataset_id)
    assert tab.total() == 12
    pressed: dict[tuple[str, str, str], tuple[str, int | None, list[str], str | None]] = {}

    # The focus goes from question to question by itself; what is wrong takes several keys.
    for keys in ("1", "2", "3", "4", "13", "22", "31", "43", "131", "2246", "1 note", "2"):
        seen = tab.texts()
        choice, sure, wrong = keys[0], keys[1:2].strip(), keys[2:] if keys[1:2].strip() else ""
        tab.press(choice, *sure, *wrong)
        note = None
        if keys.endswith("note"):
            note = "B has no date"
            tab.press("Control+ArrowDown", "Control+ArrowDown", "Shift+Enter", *note, "Escape")
        flaws = ["factual", "logic", "incomplete", "broken_constraint", "off_topic", "verbose_padding"]
        pressed[seen] = (PRESSED[choice], int(sure) if sure else None, [flaws[int(key) - 1] for key in wrong], note)
        tab.submit()

    assert len(pressed) == 12
    pulled = pull(PullConfig(name="keyboard", home=argilla_server.home, workspace=WORKSPACE, data=tmp_path))
    assert (pulled.submitted, pulled.drafts, pulled.discarded) == (12, 0, 0)
    answers = read_answers(tmp_path, "keyboard")
    said = {texts_of(row): row for row in answers.join(asked, on="record_id").iter_rows(named=True)}
    assert {texts: (row["better"], row["sure"], row["wrong"], row["note"]) for texts, row in said.items()} == pressed
    # The verdict is on the label of the pair, whichever of A and B the chosen response was.
    expected = {
        row["record_id"]: {"equal": "tie", "both_bad": "reject"}.get(
            row["better"], "accept" if (row["better"] == "a") == row["a_is_chosen"] else "swap"
        )
        for row in said.values()
    }
    found = verdicts(answers, asked.with_columns(pair_id="record_id"))
    assert dict(found.select("pair_id", "verdict").iter_rows()) == expected
    assert tab.dialogs == []


def texts_of(row: dict[str, Any]) -> tuple[str, str, str]:
    """What `Tab.texts` reads of a record."""
    return "\n".join(message["content"] for message in row["messages"]), row["response_a"], row["response_b"]


def test_markup_in_a_record_is_shown_as_text_and_nothing_of_it_runs(
    put: Put, reviewer: dict[str, str], tab: Tab, tmp_path: Path
) -> None:
    source = tmp_path / "markup.jsonl"
    source.write_text(json.dumps({"prompt": PROMPT, "chosen": SCRIPT, "rejected": PICTURE}))
    dataset_id, asked = put(str(source), "markup", records=1, include_dropped=True)
    tab.sign_in(**reviewer)

    tab.open_queue(dataset_id)
    tab.page.mouse.move(700, 250)
    tab.page.wait_for_timeout(1000)

    assert tab.texts() == texts_of(asked.row(0, named=True))
    assert tab.page.evaluate("window.attacked") is None
    assert tab.dialogs == []
    assert [url for url in tab.elsewhere if not url.startswith(OWN_FONTS)] == []
    tab.page.screenshot(path=tmp_path / "markup.png")
    record = tab.page.locator(".record__content")
    assert record.locator("img, script, iframe, a, h1, b, em, strong").count() == 0


def test_a_reviewer_sees_neither_score_nor_source_nor_which_response_is_the_chosen_one(
    put: Put, reviewer: dict[str, str], tab: Tab
) -> None:
    dataset_id, asked = put("samples", "blind", records=12)
    tab.sign_in(**reviewer)
    received: list[str] = []
    tab.page.on("response", lambda answer: received.append(answer.text()) if "/api/v1/" in answer.url else None)

    tab.open_queue(dataset_id)
    tab.page.get_by_label("Expand Record Dropdown").click()
    tab.page.get_by_text("View metadata").click()
    tab.page.wait_for_timeout(500)
    shown = tab.page.inner_text("body")
    tab.open_queue(dataset_id)
    tab.page.get_by_text("Filters", exact=True).click()

    assert tab.page.get_by_text("Metadata", exact=True).count() == 0
    hidden = ["samples", "margin", "chosen", "rejected", "random", "suspicious", "diverse", *asked["band"].unique()]
    assert [word for word in hidden if word in shown.casefold()] == []
    # Not in what the page could show either.
    records = [json.loads(body) for body in received if '"items"' in body and '"record"' in body]
    metadata = [item["record"]["metadata"] for answer in records for item in answer["items"]]
    assert metadata and not any(metadata)


def test_the_search_box_and_a_metadata_filter_narrow_the_queue(
    put: Put, tab: Tab, argilla_server: ArgillaServer
) -> None:
    dataset_id, asked = put("samples", "narrowed", records=60)
    tab.sign_in(argilla_server.username, argilla_server.password)
    tab.open_queue(dataset_id)
    texts = pl.concat_str(
        pl.col("messages").list.eval(pl.element().struct["content"]).list.join(" "),
        "response_a",
        "response_b",
        separator=" ",
    )
    holds_word = texts.str.contains(r"(?i)\bwater\b")

    tab.page.get_by_title("Search").or_(tab.page.locator("[data-title=Search]")).first.click()
    tab.page.get_by_role("search").first.fill("water")
    tab.page.get_by_role("search").first.press("Enter")
    tab.page.wait_for_timeout(1500)

    assert 0 < tab.total() < 60
    assert "water" in " ".join(tab.texts()).casefold()
    assert tab.total() == asked.filter(holds_word).height
