import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from curate.models.embedded import embedded_folder, embedded_graph
from curate.models.encoder import TOKENS_PER_BATCH, OnCpu, OnGpu, length_batches, minilm_encoder


@pytest.fixture(scope="module")
def encoder():
    return minilm_encoder()


@pytest.fixture(scope="module")
def peer():
    """sentence-transformers on the same weights, cutting from the left as we do."""
    model = SentenceTransformer(str(embedded_folder("minilm")), device="cpu")
    model.tokenizer.truncation_side = "left"
    return model


def test_no_texts_have_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_vectors_have_length_one(encoder):
    found = encoder.encode(["", " ", ".", "What is a heron?", "heron " * 400])

    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_vectors_are_those_of_sentence_transformers_in_the_order_of_the_texts(encoder, peer):
    words = ["Where", "do", "herons", "sleep", "when", "the", "river", "freezes", "?"]
    texts = [" ".join(words[i % 7 : i % 7 + 1 + i % 9] * (1 + i % 30)) for i in range(60)]
    texts += ["", "\n", "日本語のテキスト", "مرحبا بالعالم", "🦤🦤🦤", "a" * 500, "-" * 300, "x\x00y"]

    ours, theirs = encoder.encode(texts), peer.encode(texts)

    assert (ours * theirs).sum(axis=1).min() > 0.9999


def test_a_text_has_one_vector_whatever_is_beside_it(encoder):
    texts = ["Why?", "Name three birds of the marsh.", "herons and egrets " * 60]

    alone = np.concatenate([encoder.encode([text]) for text in texts])

    np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], alone, atol=1e-5)


def test_of_a_long_text_the_end_counts(encoder):
    end = "Which of these birds can sleep on one leg? " * 30

    first, second, other = encoder.encode(["river " * 300 + end, "stone " * 300 + end, end + "river " * 300])

    assert first @ second > 0.999
    assert first @ other < 0.9


def test_a_text_of_a_million_characters_has_a_vector(encoder):
    texts = ["heron " * 170_000, "h" * 1_000_000, " " * 1_000_000, "\U0001f9a4" * 1_000_000]

    assert np.isfinite(encoder.encode(texts)).all()


def test_a_lone_surrogate_counts_as_a_question_mark(encoder):
    odd, plain = encoder.encode(["A heron \ud83e", "A heron ?"])

    np.testing.assert_allclose(odd, plain, atol=1e-5)


def test_the_digest_is_of_the_weights_and_of_what_is_done_to_a_text(encoder):
    assert encoder.model == "minilm"
    assert len(encoder.digest) == 64
    assert encoder.digest == minilm_encoder().digest


def test_torch_is_not_loaded_on_a_machine_without_a_gpu(tmp_path):
    code = """
import sys
from curate.models.encoder import minilm_encoder
encoder = minilm_encoder()
assert "onnxruntime" not in sys.modules
encoder.encode(["a heron"])
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": str(tmp_path), **cache()})


@pytest.mark.gpu
def test_vectors_are_the_same_on_a_gpu():
    folder = embedded_folder("minilm")
    texts = ["", "What is a heron?", "heron and egret " * 200]

    ours, theirs = OnCpu(folder, embedded_graph("minilm")).encode(texts), OnGpu(folder).encode(texts)

    assert (ours * theirs).sum(axis=1).min() > 0.9999


def cache():
    """The variable that names the cache in use."""
    return {"PAIRWRIGHT_CACHE": str(embedded_folder("minilm").parents[1])}


@given(st.lists(st.integers(2, 256), max_size=80))
def test_batches_hold_every_text_once_within_the_budget_longest_first(lengths):
    found = length_batches(lengths)

    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(len(batch) * lengths[batch[0]] <= TOKENS_PER_BATCH for batch in found)
    flat = [lengths[i] for batch in found for i in batch]
    assert flat == sorted(flat, reverse=True)
