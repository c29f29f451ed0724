"""A row has the license that the user gives, else its own, else that of its dataset, else an unknown one."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from curate.files import asset
from curate.sources.licenses import find_license
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import rows_config


@pytest.fixture
def write(tmp_path):
    """Writes pairs with these columns, one a row, below a folder."""

    def write_rows(*columns, folder="set", card=None):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        rows = [{"prompt": f"Q{i}", "chosen": f"yes {i}", "rejected": "no", **more} for i, more in enumerate(columns)]
        (place / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        if card is not None:
            (place / "README.md").write_text(card)
        return str(place / "pairs.jsonl")

    return write_rows


def licenses(path, read=read_pairs, **config):
    parts = read(replace(rows_config(path, None, None), **config))
    return [license for part in parts for license in part.rows["license"]]


@pytest.mark.parametrize("read", [read_pairs, read_prompts])
def test_row_names_its_license_or_has_that_of_the_source(write, read):
    path = write({"license": "cc-by-4.0"}, {"license": None}, {"license": ""}, {"license": "who knows"}, {"license": 7})

    assert licenses(path, read, license="MIT") == ["CC-BY-4.0", "MIT", "MIT", "unknown", "unknown"]
    assert licenses(path, read) == ["CC-BY-4.0", "unknown", "unknown", "unknown", "unknown"]
    assert licenses(path, read, license="ISC", is_license_given=True) == ["ISC"] * 5


def test_row_with_several_licenses_is_under_all_of_them(write):
    path = write({"Licence": ["mit", "apache-2.0"]}, {"Licence": ["mit", "?"]})

    assert licenses(path) == ["MIT AND Apache-2.0", "unknown"]


def test_column_of_the_license_counts_as_used(write, caplog):
    caplog.set_level("INFO")

    licenses(write({"license": "mit", "topic": "x"}), license="ISC", is_license_given=True)

    assert "columns not used: topic" in caplog.text


def test_responses_of_several_rows_are_under_the_licenses_of_all(tmp_path):
    from curate.pipeline.imports import ImportConfig, import_pairs
    from curate.pipeline.pairing import PairConfig

    path = tmp_path / "kto.jsonl"
    texts = ("It is a fruit that grows on trees.", "It is a stone that grows in rivers.")
    rows = [
        {"prompt": "What is a plum?", "completion": text, "label": i == 0, "license": license}
        for i, (text, license) in enumerate(zip(texts, ("mit", "cc-by-4.0"), strict=True))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    cfg = rows_config(str(path), None, None)

    (part,) = import_pairs(ImportConfig(cfg.path, cfg.sha256, None, None, pairing=PairConfig()))

    assert part.rows["license"].to_list() == ["MIT AND CC-BY-4.0"]


def test_license_of_a_file_is_that_of_the_card_beside_it(write, tmp_path):
    card = "---\nlicense: cc-by-sa-4.0\n---\n"

    assert find_license(write({}, card=card), tmp_path) == "CC-BY-SA-4.0"
    assert find_license(write({}, folder="none"), tmp_path) == "unknown"
    assert find_license(write({}, folder="bare", card="# no YAML"), tmp_path) == "unknown"
    write({}, folder="repository", card=card)
    assert find_license(write({}, folder="repository/data"), tmp_path) == "CC-BY-SA-4.0"
    assert find_license(write({}, folder="repository/other"), tmp_path) == "unknown"


def test_license_of_a_dataset_folder_is_that_of_its_card(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"prompt": "Q", "chosen": "yes", "rejected": "no"}])
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "README.md").write_text("---\nlicense: odc-by\n---\n")

    path = rows_config(f"{tmp_path / 'saved'}:test", None, None).path

    assert find_license(path, tmp_path) == "ODC-By-1.0"


def test_hub_dataset_without_a_card_that_can_be_read_has_the_known_license(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert find_license("Anthropic/hh-rlhf/harmless-base@main:test", tmp_path) == "MIT"
    assert find_license("owner/name:train", tmp_path) == "unknown"


CARDS = {"/datasets/owner/name/resolve/main/README.md": b"---\nlicense: other\nlicense_name: acme-data\n---\n# Card\n"}


class Hub(BaseHTTPRequestHandler):
    """Answers for the cards of datasets as the hub does."""

    def do_HEAD(self):
        content = CARDS.get(self.path)
        self.send_response(200 if content else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"1234"')
        self.send_header("X-Error-Code", "" if content else "EntryNotFound")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(CARDS.get(self.path, b""))

    def log_message(self, *args):
        pass


@pytest.fixture
def hub_address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_license_of_a_hub_dataset_is_that_of_its_card(hub_address, tmp_path):
    # in a process of its own, for the hub's library reads its address once
    names = ["owner/name:train", "owner/bare:train", "nvidia/HelpSteer2:train"]
    program = "from pathlib import Path\nfrom curate.sources.licenses import find_license\n"
    program += f"print(*(find_license(name, Path('.')) for name in {names}))"
    settings = {"HF_ENDPOINT": hub_address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}

    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **settings}, cwd=tmp_path, capture_output=True, text=True
    )

    assert done.stdout.split() == ["LicenseRef-acme-data", "unknown", "CC-BY-4.0"], done.stderr


def test_samples_are_ours_whatever_card_lies_beside_them(tmp_path):
    assert find_license(str(asset("samples", "pairs.jsonl")), tmp_path) == "Apache-2.0"


def test_users_table_comes_before_the_card(write, tmp_path):
    path = write({}, card="---\nlicense: mit\n---\n")
    (tmp_path / "licenses.toml").write_text(f"[datasets.{json.dumps(path)}]\nlicense = 'CC-BY-NC-4.0'\n")

    assert find_license(path, tmp_path) == "CC-BY-NC-4.0"
