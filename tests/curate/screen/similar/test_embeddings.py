import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.similar import embeddings
from curate.screen.similar.embeddings import embed_texts, stored_vectors, text_keys
from schemas.errors import UserError


class Scripted:
    """Vectors that follow from the text, and how often each text was asked for."""

    model = "scripted"
    dimensions = 8

    def __init__(self, digest="0123456789abcdef", odd=None, pause_s=0.0):
        self.digest = digest
        self.asked = []
        self._odd = odd or {}
        self._pause_s = pause_s

    def encode(self, texts):
        time.sleep(self._pause_s)
        self.asked += texts
        return np.array([self._odd.get(text, of_text(text)) for text in texts], np.float32).reshape(-1, 8)


def of_text(text):
    seed = int.from_bytes(text_keys([text])[0].ljust(16, b"\0")[:4], "little")
    return np.random.default_rng(seed).normal(size=8)


def expected(texts):
    rows = np.array([of_text(text) for text in texts], np.float32).reshape(-1, 8).astype(np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def shards(folder):
    return sorted(folder.glob("*/*.npy"))


def test_no_texts_have_no_vectors_and_make_no_folder(tmp_path):
    found = embed_texts([], tmp_path / "vectors", Scripted())

    assert found.shape == (0, 8)
    assert found.dtype == np.float16
    assert not (tmp_path / "vectors").exists()


def test_a_vector_that_is_zero_or_not_finite_is_nan_throughout(tmp_path):
    odd = {"zero": np.zeros(8), "nan": np.full(8, np.nan), "one nan": [np.nan] + [1.0] * 7, "inf": [np.inf] * 8}

    found = embed_texts([*odd, "fine"], tmp_path, Scripted(odd=odd))
    again = embed_texts([*odd, "fine"], tmp_path, Scripted())

    assert np.isnan(found).all(axis=1).tolist() == [True] * 4 + [False]
    np.testing.assert_array_equal(found, again)


def test_vectors_have_length_one_whatever_the_model_gives(tmp_path):
    odd = {"long": np.full(8, 1e30), "short": np.full(8, 1e-30)}

    found = embed_texts(list(odd), tmp_path, Scripted(odd=odd)).astype(np.float32)

    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-3)


def test_each_distinct_text_is_embedded_once(tmp_path):
    embedder = Scripted()
    texts = ["a", "b", "a", "", "b", ""]

    found = embed_texts(texts, tmp_path, embedder)
    again = embed_texts(["b", "new", "a"], tmp_path, embedder)

    assert sorted(embedder.asked) == ["", "a", "b", "new"]
    np.testing.assert_array_equal(found, expected(texts))
    np.testing.assert_array_equal(again, expected(["b", "new", "a"]))


def test_a_text_is_embedded_once_across_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "TEXTS_PER_SHARD", 3)
    embedder = Scripted()
    texts = [f"text {i % 10}" for i in range(100)]

    found = embed_texts(iter(texts), tmp_path, embedder)

    assert sorted(embedder.asked) == sorted(set(texts))
    assert len(shards(tmp_path)) > 1
    np.testing.assert_array_equal(found, expected(texts))


@given(st.lists(st.lists(st.text(max_size=3), max_size=20), max_size=4))
def test_vectors_stand_in_the_order_of_the_texts_however_they_come(tmp_path_factory, calls):
    folder = tmp_path_factory.mktemp("vectors")
    embedder = Scripted()

    for texts in calls:
        np.testing.assert_array_equal(embed_texts(texts, folder, embedder), expected(texts))

    assert len(embedder.asked) == len(set(embedder.asked))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_keys_are_equal_only_where_all_their_bytes_are(left, right):
    keys = np.frombuffer(left + right, embeddings.KEY)

    assert (keys[0] == keys[1]) == (left == right)


def test_a_lone_surrogate_is_a_text_of_its_own(tmp_path):
    embedder = Scripted()

    embed_texts(["\ud800", "\ud801", "?"], tmp_path, embedder)

    assert len(embedder.asked) == 3


def test_another_model_has_vectors_of_its_own(tmp_path):
    other = Scripted(digest="f" * 64)
    embed_texts(["a"], tmp_path, Scripted())

    embed_texts(["a"], tmp_path, other)

    assert other.asked == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"scripted-0123456789ab", "scripted-ffffffffffff"}


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_shard_is_set_aside_with_one_warning_and_its_texts_embedded_again(tmp_path, caplog, damage):
    embed_texts(["a", "b"], tmp_path, Scripted())
    embed_texts(["c"], tmp_path, Scripted())
    bad = next(path for path in shards(tmp_path) if np.load(path).size == 2)
    content = bad.read_bytes()
    bad.write_bytes({"cut": content[:-5], "changed": content[:-1] + b"x", "empty": b""}[damage])
    embedder = Scripted()

    with caplog.at_level(logging.WARNING):
        found = embed_texts(["a", "b", "c"], tmp_path, embedder)

    assert sorted(embedder.asked) == ["a", "b"]
    np.testing.assert_array_equal(found, expected(["a", "b", "c"]))
    assert [record.getMessage() for record in caplog.records] == [
        f"{bad} is damaged; set aside, and its texts are embedded again"
    ]
    assert bad.with_suffix(".damaged").exists()


def test_progress_is_told_of_the_texts_that_were_embedded(tmp_path):
    told = []
    embed_texts(["a"], tmp_path, Scripted())

    embed_texts([str(i) for i in range(300)] + ["a", "1"], tmp_path, Scripted(), told.append)

    assert told == [256, 44]


def test_slow_work_is_written_in_smaller_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "SECONDS_PER_SHARD", 0.0)

    embed_texts([str(i) for i in range(600)], tmp_path, Scripted())

    assert sorted(np.load(path).size for path in shards(tmp_path)) == [88, 256, 256]


def test_keys_fetch_vectors_that_were_embedded_before(tmp_path):
    embed_texts(["a", "b"], tmp_path, Scripted())

    found = stored_vectors(text_keys(["b", "a", "b"]), tmp_path, Scripted())

    np.testing.assert_array_equal(found, expected(["b", "a", "b"]))


def test_keys_that_the_store_lacks_are_an_error(tmp_path):
    embed_texts(["a"], tmp_path, Scripted())

    with pytest.raises(UserError, match=r"2 vectors are gone from .*; give the same command again"):
        stored_vectors(text_keys(["a", "b", "c"]), tmp_path, Scripted())


def test_two_processes_at_once_both_have_all_vectors(tmp_path):
    texts = [f"text {i}" for i in range(1500)]
    context = multiprocessing.get_context("fork")
    started = context.Barrier(2)

    def work(order):
        started.wait()
        np.testing.assert_array_equal(embed_texts(order, tmp_path, Scripted(pause_s=0.01)), expected(order))

    processes = [context.Process(target=work, args=(order,)) for order in (texts, texts[::-1])]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    embedder = Scripted()
    np.testing.assert_array_equal(embed_texts(texts, tmp_path, embedder), expected(texts))
    assert embedder.asked == []


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from test_embeddings import Scripted
from curate.screen.similar import embeddings
embeddings.TEXTS_PER_SHARD = 50
embeddings.embed_texts([f"text {i}" for i in range(1000)], Path(sys.argv[1]), Scripted(pause_s=0.05))
"""


def test_a_kill_loses_no_more_than_the_shard_under_way(tmp_path):
    here = os.path.dirname(__file__)
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), here])
    try:
        deadline = time.monotonic() + 60
        while len(shards(tmp_path)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    saved = len(shards(tmp_path))
    embedder = Scripted()
    texts = [f"text {i}" for i in range(1000)]

    found = embed_texts(texts, tmp_path, embedder)

    assert saved >= 3
    assert len(embedder.asked) == 1000 - 50 * saved
    np.testing.assert_array_equal(found, expected(texts))
