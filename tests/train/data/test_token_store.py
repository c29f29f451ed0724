"""What is read back is what was written, whatever is killed, cut, changed or asked for twice at once."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_data import PAIRS, needs_pairs
from transformers import ByT5Tokenizer, GenerationConfig

from schemas.errors import UserError
from train.data import token_store
from train.data import tokenize as tokenizing
from train.data.chat import read_chat
from train.data.token_store import Texts, TokenRows, token_rows, write_files
from train.data.tokenize import Encoded, pack_rows
from train.data.tokens import Preflight, Row, Tokens, pair_row

PACKAGE = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def chat(tokenizer):
    return read_chat("smollm2", tokenizer, GenerationConfig())


def numbered(count, answer="It is {}."):
    """Short pairs, each of its own prompt."""
    for row in range(count):
        yield f"p{row}", [{"role": "user", "content": f"What is {row}?"}], answer.format(row), "No idea.", None


def texts(count, kind="pair", rows=None):
    return Texts(kind, {"test": count}, rows or (lambda: numbered(count)), count)


def said(rows):
    """Rows as plain values."""
    return [
        (row.row_id, row.prompt.tolist(), [(each.ids.tolist(), each.learned.tolist()) for each in row.responses])
        for row in rows
    ]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".train.lock"}


def no_rows():
    raise AssertionError("the rows were read although their tokens are there")


def test_an_empty_split_is_written_and_read(chat, tmp_path):
    rows = token_rows(tmp_path, chat, texts(0), "heldout", 64)

    assert (len(rows), list(rows), rows.sizes.tolist(), rows.largest_id) == (0, [], [], -1)
    assert rows.preflight == Preflight()
    assert len(token_rows(tmp_path, chat, texts(0, rows=no_rows), "heldout", 64)) == 0


def test_a_split_of_which_nothing_fits_has_no_rows_and_its_reasons(chat, tmp_path):
    rows = token_rows(tmp_path, chat, texts(3), "train", 5)

    assert (len(rows), rows.preflight.rows, dict(rows.preflight.dropped)) == (0, 3, {"prompt_too_long": 3})


def test_rows_are_those_of_the_encoder_and_are_made_once(chat, tmp_path):
    rows = token_rows(tmp_path, chat, texts(5), "train", 64)
    again = token_rows(tmp_path, chat, texts(5, rows=no_rows), "train", 64)

    count = Preflight()
    expected = [pair_row(chat, *row[:-1], 64, count) for row in numbered(5)]
    assert said(rows) == said(again) == said(expected)
    assert rows.preflight == again.preflight == count
    assert (rows[0].prompt.dtype, rows[0].responses[0].learned.dtype) == (np.uint32, np.bool_)
    assert rows.largest_id == max(int(max(row.prompt.max(), *(r.ids.max() for r in row.responses))) for row in expected)
    assert said([rows[-1]]) == said(rows[4:])
    with pytest.raises(IndexError):
        rows[5]


def test_conversations_keep_what_is_not_learned(chat, tmp_path):
    turns = [("user", "Hi?"), ("assistant", "Hello."), ("user", "Why?"), ("assistant", "Because.")]
    messages = [{"role": role, "content": content} for role, content in turns]

    rows = token_rows(tmp_path, chat, texts(1, "conversation", lambda: [("c", messages, None)]), "train", 64)

    (response,) = rows[0].responses
    assert chat.tokenizer.decode(response.ids[response.learned]) == "Hello.<|im_end|>Because.<|im_end|>"
    assert len(rows[0]) == rows.sizes[0] == len(rows[0].prompt) + len(response)


tokens = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), max_size=6)
drawn_rows = st.lists(
    st.tuples(
        st.text(st.characters(), max_size=5),
        st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4),
        st.tuples(tokens, tokens),
    ),
    max_size=7,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=drawn_rows, at_once=st.integers(1, 4), kind=st.sampled_from(["pair", "conversation"]))
def test_any_rows_come_back_as_they_were_written(tmp_path_factory, drawn, at_once, kind):
    rows = [
        Row(
            row_id,
            np.array(prompt, dtype=np.uint32),
            tuple(
                Tokens(np.array([i for i, _ in side], dtype=np.uint32), np.array([b for _, b in side], dtype=np.bool_))
                for side in (sides if kind == "pair" else sides[:1])
            ),
        )
        for row_id, prompt, sides in drawn
    ]
    folder = tmp_path_factory.mktemp("rows")
    chunks = [pack_rows(rows[start : start + at_once], Preflight()) for start in range(0, len(rows), at_once)]

    manifest = write_files(folder, chunks)

    read = TokenRows(folder, {"name": "k", "kind": kind} | manifest)
    assert said(read) == said(rows)
    read.release()
    assert said(read) == said(rows)
    assert read.sizes.tolist() == [len(row) for row in rows]
    ids = [int(i) for row in rows for part in (row.prompt, *(r.ids for r in row.responses)) for i in part]
    assert read.largest_id == max(ids, default=-1)
    assert manifest["tokens"] == len(ids) == (folder / "tokens.bin").stat().st_size // 4


def test_the_key_changes_with_everything_that_decides_the_tokens(chat, tokenizer, tmp_path):
    other = copy.deepcopy(tokenizer)
    other.chat_template = tokenizer.chat_template.replace("You are", "Thou art")
    templated = read_chat("other", other, GenerationConfig())
    assert other.chat_template != tokenizer.chat_template
    added = copy.deepcopy(tokenizer)
    added.add_tokens(["whatsoever"])
    ended = read_chat("ended", tokenizer, GenerationConfig(eos_token_id=[2, 5]))

    keys = [
        token_rows(tmp_path, *asked).key
        for asked in (
            (chat, texts(2), "train", 64),
            (chat, texts(2), "heldout", 64),
            (chat, texts(2), "train", 65),
            (chat, texts(3), "train", 64),
            (chat, texts(2, "conversation", lambda: []), "train", 64),
            (templated, texts(2), "train", 64),
            (read_chat("added", added, GenerationConfig()), texts(2), "train", 64),
            (ended, texts(2), "train", 64),
        )
    ]

    assert len(set(keys)) == len(keys)
    # using a tokenizer changes settings in it that decide nothing
    used = copy.deepcopy(tokenizer)
    used(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert token_rows(tmp_path, read_chat("used", used, GenerationConfig()), texts(2), "train", 64).key == keys[0]


def test_a_tokenizer_without_a_fast_backend_has_a_key_too(tmp_path):
    slow = ByT5Tokenizer()
    slow.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    chat = read_chat("bytes", slow, GenerationConfig())

    first = token_rows(tmp_path, chat, texts(2), "train", 512)
    again = token_rows(tmp_path, chat, texts(2, rows=no_rows), "train", 512)
    slow.chat_template += " "
    other = token_rows(tmp_path, read_chat("bytes", slow, GenerationConfig()), texts(2), "train", 512)

    assert len(first) == 2
    assert first.key == again.key != other.key


@pytest.mark.parametrize("name", [*token_store.FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "deleted"])
def test_a_damaged_split_is_written_again_with_one_warning(chat, tmp_path, caplog, name, damage):
    rows = token_rows(tmp_path, chat, texts(4), "train", 64)
    (path,) = (tmp_path / "tokens").glob(f"*/train/{name}")
    whole = files(path.parent)
    if damage == "cut":
        # in a new file, for cutting one that is mapped pulls its pages from under the reader
        half = whole[name][: len(whole[name]) // 2]
        path.unlink()
        path.write_bytes(half)
    else:
        path.unlink()

    again = token_rows(tmp_path, chat, texts(4), "train", 64)

    assert files(path.parent) == whole
    assert said(again) == said(rows)
    assert again.preflight.kept == 4
    assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["WARNING"]
    assert "its tokens are made again" in caplog.text


def test_one_and_two_processes_write_the_same_bytes(chat, tmp_path):
    count = tokenizing.FEW * tokenizing.CHUNK + 300

    written = {}
    for workers in (1, 2):
        rows = token_rows(tmp_path / str(workers), chat, texts(count), "train", 64, workers)
        written[workers] = files(tmp_path / str(workers))
        assert (len(rows), rows.preflight.kept, rows[count - 1].row_id) == (count, count, f"p{count - 1}")

    assert written[1] == written[2]


def test_row_ids_of_any_script_come_back(chat, tmp_path):
    ids = ["é", "对-2", "", "\U0001f600"]
    rows = [(row_id, *row[1:]) for row_id, row in zip(ids, numbered(4), strict=True)]

    read = token_rows(tmp_path, chat, texts(4, rows=lambda: rows), "train", 64)

    assert [row.row_id for row in read] == ids


def test_an_error_while_writing_leaves_nothing(chat, tmp_path):
    def broken():
        yield from numbered(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        token_rows(tmp_path, chat, texts(9, rows=broken), "train", 64)

    assert files(tmp_path) == {}
    assert [path.name for path in (tmp_path / "tokens").glob("*/*")] == [".train.lock"]


def test_a_folder_that_cannot_be_written_is_one_sentence(chat, tmp_path):
    (tmp_path / "tokens").write_text("in the way")

    with pytest.raises(UserError, match=r"cannot write tokens to .*--data"):
        token_rows(tmp_path, chat, texts(1), "train", 64)


def killing(rows):
    """Rows, and in their midst the end of one process that encodes them."""
    for index, row in enumerate(rows):
        if index == 3 * tokenizing.FEW * tokenizing.CHUNK:
            mine = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
            mine[0].kill()
        yield row


def test_a_process_that_is_killed_stops_the_others_with_one_sentence(chat, tmp_path):
    rows = texts(1, rows=lambda: killing(numbered(50_000)))

    with pytest.raises(UserError, match=r"a process that made tokens was killed.*give the same command again"):
        token_rows(tmp_path, chat, rows, "train", 64, workers=2)

    assert files(tmp_path) == {}


WRITER = """
import sys, time
from pathlib import Path
from transformers import AutoTokenizer, GenerationConfig
from curate.models.folders import model_folder
from train.data.chat import read_chat
from train.data.token_store import Texts, token_rows

def rows(count, pause_s):
    for row in range(count):
        if row == count - 1 and pause_s:
            print("almost", flush=True)
            time.sleep(pause_s)
        yield f"p{row}", [{"role": "user", "content": f"What is {row}?"}], f"It is {row}.", "No idea.", None

if __name__ == "__main__":
    data, count, pause_s, workers = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    chat = read_chat("smollm2", AutoTokenizer.from_pretrained(model_folder("smollm2")), GenerationConfig())
    print("ready", flush=True)
    texts = Texts("pair", {"test": count}, lambda: rows(count, pause_s), count)
    print(len(token_rows(data, chat, texts, "train", 64, workers)), flush=True)
"""


def writer(tmp_path, *arguments):
    """Another process that writes a split into `tmp_path`."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    return subprocess.Popen(
        [sys.executable, script, tmp_path / "data", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE)},
    )


def wait_for(process, line):
    while (read := process.stdout.readline()).strip() != line:
        assert read, process.stderr.read()


def gone(processes, within_s=20):
    """Whether all of them end in time."""
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return not alive


@pytest.mark.parametrize(("end", "workers"), [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 2)])
def test_a_writer_that_is_stopped_leaves_no_process_and_the_next_one_writes_all(chat, tmp_path, end, workers):
    count = tokenizing.FEW * tokenizing.CHUNK + 1
    with writer(tmp_path, count, 300, workers) as process:
        wait_for(process, "almost")
        children = psutil.Process(process.pid).children(recursive=True)
        assert bool(children) == (workers == 2)
        for each in [*(children if end == signal.SIGINT else []), process]:
            # the terminal sends Ctrl-C to all of them
            os.kill(each.pid, end)
        _, stderr = process.communicate()

    assert gone(children)
    assert process.returncode != 0
    assert not list((tmp_path / "data" / "tokens").glob("*/train"))
    left = [path.name for path in (tmp_path / "data" / "tokens").glob("*/*") if path.name != ".train.lock"]
    assert left == ([".train.part"] if end == signal.SIGKILL else [])
    # one traceback, of this process and of no other
    assert stderr.count("Traceback (most recent call last)") == (end == signal.SIGINT)
    rows = token_rows(tmp_path / "data", chat, texts(count), "train", 64)
    assert len(rows) == count
    assert sorted(path.name for path in (tmp_path / "data" / "tokens").glob("*/*")) == [".train.lock", "train"]


def test_two_writers_at_once_write_one_split(chat, tmp_path):
    with writer(tmp_path, 900, 1, 1) as first:
        wait_for(first, "almost")
        with writer(tmp_path, 900, 1, 1) as second:
            # the second finds what the first wrote, and so never comes to its last row
            assert second.communicate()[0].split() == ["ready", "900"]
        assert first.communicate()[0].split() == ["900"]

    rows = token_rows(tmp_path / "data", chat, texts(900, rows=no_rows), "train", 64)
    assert len(rows) == 900


def resident_bytes():
    return psutil.Process().memory_info().rss


def test_reading_all_of_a_large_split_takes_no_more_memory_than_a_part(tmp_path):
    row = pack_rows([Row("r", np.arange(300, dtype=np.uint32), (tokens_of(300), tokens_of(300)))] * 256, Preflight())
    # 256 x 900 x 4 bytes = 0.9 MB a chunk
    manifest = write_files(tmp_path, (row for _ in range(300)))
    rows = TokenRows(tmp_path, {"name": "k", "kind": "pair"} | manifest)
    before = resident_bytes()

    peak, all_tokens = before, 0
    for index, place in enumerate(np.random.default_rng(0).permutation(len(rows)).tolist()):
        all_tokens += len(rows[place])
        # As after each batch: a kernel maps 64 KB and more around each row.
        if index % 64 == 0:
            peak = max(peak, resident_bytes())
            rows.release()

    assert all_tokens == rows.sizes.sum() == 300 * 256 * 900
    assert (tmp_path / "tokens.bin").stat().st_size > 250e6
    assert peak - before < 40e6


def tokens_of(count):
    return Tokens(np.arange(count, dtype=np.uint32), np.ones(count, dtype=np.bool_))


def test_writing_holds_no_more_than_a_few_chunks(tmp_path):
    def chunks():
        for _ in range(400):
            yield Encoded(np.zeros(250_000, np.uint32), np.full(300, 833, np.int64), ["r"] * 100, Preflight())

    before = resident_bytes()
    peaks = []
    write_files(tmp_path, watched(chunks(), peaks))

    # 400 MB written
    assert max(peaks) - before < 40e6


def watched(chunks, peaks):
    for chunk in chunks:
        peaks.append(resident_bytes())
        yield chunk


def test_a_row_costs_little_to_read(tmp_path):
    row = pack_rows([Row("r", np.arange(200, dtype=np.uint32), (tokens_of(200), tokens_of(200)))] * 2000, Preflight())
    rows = TokenRows(tmp_path, {"name": "k", "kind": "pair"} | write_files(tmp_path, [row]))

    begun = time.process_time()
    for _ in rows:
        pass

    # 10 to 20 us measured; a pair's forward and backward pass takes a thousand times as long
    assert (time.process_time() - begun) / len(rows) < 500e-6


@needs_pairs
def test_real_pairs_come_back_as_they_were_encoded(chat, tmp_path):
    pairs = pl.read_parquet(PAIRS).to_dicts()
    rows = [(p["id"], [{"role": "user", "content": p["prompt"]}], p["chosen"], p["rejected"], None) for p in pairs]

    read = token_rows(tmp_path, chat, texts(len(rows), rows=lambda: rows), "train", 512)

    count = Preflight()
    expected = [row for row in (pair_row(chat, *row[:-1], 512, count) for row in rows) if row is not None]
    assert said(read) == said(expected)
    assert read.preflight == count
    assert count.rows == count.kept + count.dropped.total() == 614
    assert all(len(row.prompt) + max(map(len, row.responses)) <= 512 for row in read)
    assert json.loads(next((tmp_path / "tokens").glob("*/train/manifest.json")).read_text())["preflight"][
        "kept"
    ] == len(read)
