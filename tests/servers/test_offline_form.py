"""The form of an offline review, driven in headless Chromium as a reviewer would."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from asking import asked_rows, begin
from playwright.sync_api import Browser, Page, sync_playwright
from scripted import user

from curate.review.config import ExportConfig, ImportConfig
from curate.review.form.form import export_records, import_answers
from curate.store.reviews import read_answers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SCRIPT = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> </script><script>alert(3)</script> <!-- {{script}} "
    "**bold** ![](http://127.0.0.1:9/x.png) [link](javascript:alert(4))\n\n```html\n  <svg onload=alert(5)>\n```"
)
NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError'); }});"

pytestmark = [pytest.mark.server, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")]


@dataclass
class Heard:
    """What a page did that it should not do."""

    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


@pytest.fixture
def opened(tmp_path: Path, page: Page) -> str:
    """The address of a form with twelve records, opened, with the name given."""
    begin(tmp_path, "garden", asked_rows(12, a_is_chosen=[i % 2 == 0 for i in range(12)]))
    export_records(ExportConfig(data=tmp_path, name="garden", out=tmp_path / "garden.html"))
    address = (tmp_path / "garden.html").as_uri()
    page.goto(address)
    page.keyboard.type("Ana María")
    page.keyboard.press("Enter")
    # The browser closes the dialog a moment after the key, and keys until then are the dialog's.
    page.wait_for_function("!document.getElementById('ask').open")
    return address


def press(page: Page, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def saved_answers(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press("s")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_twelve_records_are_judged_by_keyboard_and_come_back_as_they_were_pressed(opened, page, tmp_path):
    pressed = ["1", "2", "3", "4", "1", "1", "2", "3", "4", "2", "1", "2"]

    for i, key in enumerate(pressed):
        assert page.inner_text("#position") == f"Record {i + 1} of 12"
        press(page, f"{key} {'qwe'[i % 3]} Enter" if i < 11 else key)
    path = saved_answers(page, tmp_path)
    summary = import_answers(ImportConfig(data=tmp_path, file=path))

    assert path.name == "garden-Ana-María.jsonl"
    answers = read_answers(tmp_path, "garden")  # by record, as the form shows them
    assert answers["better"].to_list() == [["a", "b", "equal", "both_bad"][int(key) - 1] for key in pressed]
    assert answers["sure"].to_list() == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, None]
    assert (summary.submitted, summary.never_asked, summary.unreadable) == (12, [], 0)
    assert summary.verdicts | {"accept": 0, "swap": 0} == {"accept": 0, "swap": 0, "tie": 2, "reject": 2}
    assert summary.verdicts["accept"] + summary.verdicts["swap"] == 8


def test_answers_are_changed_undone_cleared_and_explained(opened, page, tmp_path):
    press(page, "1 Enter 2 Enter 3 u ArrowLeft 4 Enter")
    assert page.inner_text("#position") == "Record 3 of 12"
    press(page, "2 f Space ArrowRight 1 n")
    page.keyboard.type("1 u both wrong")
    press(page, "Enter ArrowLeft ArrowLeft ArrowLeft ArrowLeft Backspace")

    path = saved_answers(page, tmp_path)
    import_answers(ImportConfig(data=tmp_path, file=path))

    answers = read_answers(tmp_path, "garden")
    assert answers["better"].to_list() == ["both_bad", "b", "a"]
    assert [len(wrong) for wrong in answers["wrong"]] == [0, 1, 0]
    assert answers["note"].to_list() == [None, None, "1 u both wrong"]


def test_answers_are_still_there_when_the_page_is_opened_again(opened, page):
    press(page, "1 Enter 2 Enter")

    page.goto("about:blank")
    page.goto(opened)

    assert page.inner_text("#position") == "Record 3 of 12"
    assert page.inner_text("#judged") == "2 of 12 judged"
    assert page.inner_text("#who") == "Ana María"
    assert "2 new" in page.inner_text("#save")


def test_somebody_else_does_not_see_the_answers_of_the_first(opened, page):
    press(page, "1 Enter")
    page.click("#who")
    page.fill("#name", "Ben")
    page.click("#begin")
    assert page.inner_text("#judged") == "0 of 12 judged"

    page.click("#who")
    page.fill("#name", "ana maría")
    page.click("#begin")

    assert page.inner_text("#judged") == "1 of 12 judged"


def test_corrected_name_keeps_the_answers(opened, page):
    press(page, "1 Enter")
    page.click("#who")
    page.fill("#name", "Anna")
    page.click("#correct")

    page.goto(opened)

    assert (page.inner_text("#who"), page.inner_text("#judged")) == ("Anna", "1 of 12 judged")


def test_page_says_so_where_the_browser_keeps_nothing(opened, browser, tmp_path):
    context = browser.new_context()
    context.add_init_script(NO_STORAGE)
    page = context.new_page()
    page.goto(opened)
    page.keyboard.type("Ana")
    press(page, "Enter")
    page.wait_for_function("!document.getElementById('ask').open")
    press(page, "1 Enter")

    assert page.is_visible("#warning")
    assert page.inner_text("#judged") == "1 of 12 judged"
    assert saved_answers(page, tmp_path).read_text().count("\n") == 1
    context.close()


def test_script_in_a_response_is_text(page, tmp_path):
    texts = {"response_a": [SCRIPT], "response_b": [""], "messages": [user(SCRIPT)]}
    begin(tmp_path, "garden", asked_rows(1, **texts))
    export_records(ExportConfig(data=tmp_path, name="garden", out=tmp_path / "garden.html"))
    heard = Heard()
    heard.listen(page)

    page.goto((tmp_path / "garden.html").as_uri())
    page.keyboard.type(SCRIPT[:40])
    press(page, "Enter 1 n")
    page.keyboard.type(SCRIPT)
    page.wait_for_timeout(500)

    assert [url for url in heard.requests if not url.startswith("file:")] == []
    assert (heard.dialogs, heard.errors) == ([], [])
    shown = page.text_content('[data-side="a"] .text')
    assert shown is not None
    assert shown.replace("\n", "") == SCRIPT.replace("\n", "")
    assert page.text_content('[data-side="b"] .text') == "(empty response)"
    assert page.locator("main img, main script, main svg, main a").count() == 0


def test_policy_forbids_what_a_script_would_do(opened, page):
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.ran = 1';
        document.body.append(script);
    }""")

    assert page.evaluate("window.ran") is None
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"


def test_twenty_thousand_records_open_and_turn_at_once(page, tmp_path):
    count = 20_000
    texts = {"response_a": ["Beans. " * 100] * count, "response_b": ["Peas. " * 100] * count}
    begin(tmp_path, "garden", asked_rows(count, **texts))
    export_records(ExportConfig(data=tmp_path, name="garden", out=tmp_path / "garden.html"))

    page.goto((tmp_path / "garden.html").as_uri())
    page.keyboard.type("Ana")
    press(page, "Enter")
    milliseconds = page.evaluate("""() => {
        const begun = performance.now();
        for (let i = 0; i < 20; i++) { change({better: 'a'}); next(); }
        return (performance.now() - begun) / 20;
    }""")
    print(f"{milliseconds:.1f} ms a record")

    assert page.inner_text("#judged") == "20 of 20,000 judged"
    assert milliseconds < 100
