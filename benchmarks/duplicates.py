"""Near duplicates beside SemHash and datasketch on the same vectors and texts, and a million vectors alone.

The vectors are those of real texts (`--vectors`, an .npy file of MiniLM vectors, or made from ../shared/datasets),
turned to 256 dimensions and moved at random by up to 0.9 of their length, so that some have many neighbors and most
have none. The peers live in an environment of their own:

    python -m venv .venv-peers-screen && .venv-peers-screen/bin/pip install semhash==0.5.0 datasketch

Figures are medians of alternating runs; `--json` prints them as one line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

DATASETS = Path(__file__).parents[2] / "shared" / "datasets"
DIMENSIONS = 256
THRESHOLD = 0.9
MOST_MOVED = 0.9
RUNS = 3

SEMHASH = """
import sys, time, json, numpy as np
from semhash import SemHash
from vicinity import Backend
vectors = np.load(sys.argv[1])
class Ready:
    def encode(self, texts, **_): return vectors[[int(text) for text in texts]]
records = [str(i) for i in range(len(vectors))]
began = time.perf_counter()
found = SemHash.from_records(records, model=Ready()).self_deduplicate(threshold=float(sys.argv[2]))
print(json.dumps({"seconds": time.perf_counter() - began, "kept": len(found.selected)}))
"""

DATASKETCH = """
import sys, time, json
from datasketch import MinHash, MinHashLSH
texts = json.load(open(sys.argv[1]))
began = time.thread_time()
index = MinHashLSH(threshold=0.8, num_perm=128)
for i, text in enumerate(texts):
    words = text.lower().split()
    signature = MinHash(num_perm=128)
    signature.update_batch([" ".join(words[j : j + 3]).encode() for j in range(len(words) - 2)])
    index.query(signature)
    index.insert(str(i), signature)
print(json.dumps({"texts_per_s": len(texts) / (time.thread_time() - began)}))
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help="MiniLM vectors of real texts, an .npy file")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers-screen"), help="environment with the peers")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large run; 0 leaves it out")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    args = parser.parse_args()
    real = np.load(args.vectors) if args.vectors else real_vectors()
    figures: dict[str, Any] = {"semantic_50k": semantic_50k(moved(real, 50_000), args.peers)}
    figures["lexical"] = lexical(args.peers)
    if args.rows:
        figures["semantic_1m_s"] = timed(moved(real, args.rows))
    print(json.dumps(figures) if args.json else json.dumps(figures, indent=1))


def real_vectors() -> NDArray[np.float32]:
    """(texts, 384) vectors of the prompts of GSM8K and code, with the plain encoder."""
    from sentence_transformers import SentenceTransformer

    from curate.models.embedded import embedded_folder

    prompts = [text for name in ("gsm8k_train_sft", "gpteacher_codegen_sft") for text in prompts_of(name)]
    model = SentenceTransformer(str(embedded_folder("minilm")))
    return np.asarray(model.encode(prompts, normalize_embeddings=True), dtype=np.float32)


def prompts_of(name: str) -> list[str]:
    """The prompts of one of the shared files."""
    rows = pl.read_ndjson(DATASETS / f"{name}.jsonl.gz")
    column = "question" if "question" in rows.columns else "instruction"
    return rows[column].to_list()


def moved(real: NDArray[Any], rows: int) -> NDArray[np.float16]:
    """(rows, DIMENSIONS) of length 1: real vectors drawn at random, along their main axes, and moved."""
    rng = np.random.default_rng(30)
    real = real.astype(np.float32)
    _, axes = np.linalg.eigh(real.T @ real)
    turned = real @ axes[:, ::-1][:, :DIMENSIONS]
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    found = np.empty((rows, DIMENSIONS), dtype=np.float16)
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        noise = rng.standard_normal((count, DIMENSIONS), dtype=np.float32) / DIMENSIONS**0.5
        block = (
            turned[rng.integers(0, len(real), count)] + noise * rng.random((count, 1), dtype=np.float32) * MOST_MOVED
        )
        found[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return found


def timed(vectors: NDArray[np.float16]) -> float:
    """Seconds of finding all neighbors and keeping the first of those that are alike."""
    from curate.screen.similar.greedy import kept_rows
    from curate.screen.similar.neighbors import similar_rows

    began = time.perf_counter()
    left, right, _ = similar_rows(vectors, THRESHOLD)
    rows = np.arange(len(vectors))
    kept_rows(rows, rows, (left, right), 1)
    return time.perf_counter() - began


def semantic_50k(vectors: NDArray[np.float16], peers: Path) -> dict[str, float]:
    """Seconds of either on the same vectors, one after the other, and our recall of the rows that must fall."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, vectors.astype(np.float32))
        for _ in range(RUNS):
            ours.append(timed(vectors))
            theirs.append(run_peer(peers, SEMHASH, str(path), str(THRESHOLD))["seconds"])
    return {"ours_s": statistics.median(ours), "semhash_s": statistics.median(theirs), "recall": recall(vectors)}


def recall(vectors: NDArray[np.float16]) -> float:
    """Share of the rows alike to an earlier one, by all products, for which such a row is found."""
    from curate.screen.similar.neighbors import similar_rows

    _, right, _ = similar_rows(vectors, THRESHOLD)
    exact = vectors.astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    alike = []
    for start in range(0, len(exact), 1000):
        products = np.tril(exact[start : start + 1000] @ exact[: start + 1000].T, start - 1)
        alike.append((products >= THRESHOLD).any(axis=1))
    must = np.flatnonzero(np.concatenate(alike))
    return float(np.isin(must, right).mean())


def lexical(peers: Path) -> dict[str, float]:
    """Texts a second of processor time, of one thread: the lexical copies of real prompts and responses."""
    rows = pl.concat(
        pl.read_ndjson(DATASETS / f"{name}.jsonl.gz").select(prompt=pl.col(prompt), chosen=pl.col(chosen))
        for name, prompt, chosen in (
            ("gsm8k_train_sft", "question", "answer"),
            ("gpteacher_codegen_sft", "instruction", "response"),
            ("gpteacher_roleplay_sft", "instruction", "response"),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps([f"{prompt}\n{chosen}" for prompt, chosen in rows.rows()]))
        ours, theirs = [], []
        for _ in range(RUNS):
            ours.append(run_own(path.with_suffix(".parquet"), rows))
            theirs.append(run_peer(peers, DATASKETCH, str(path))["texts_per_s"])
    characters = rows.select(pl.sum_horizontal(pl.all().str.len_chars())).mean().item()
    return {
        "texts_per_s": statistics.median(ours),
        "datasketch": statistics.median(theirs),
        "characters": characters,
    }


OWN = """
import sys, time, json, polars as pl
from curate.screen.similar.lexical import LexicalConfig, find_lexical_duplicates
pairs = pl.read_parquet(sys.argv[1])
none = pl.lit(None, dtype=pl.Float64)
measured = pairs.with_row_index("i").select(
    pair_id=pl.col("i").cast(pl.String), z_margin=none, margin=none, chosen_hash=pl.struct("messages", "chosen").hash())
began = time.process_time()
find_lexical_duplicates(pairs.lazy(), measured.lazy(), LexicalConfig())
print(json.dumps({"texts_per_s": pairs.height / (time.process_time() - began)}))
"""


def run_own(path: Path, rows: pl.DataFrame) -> float:
    """Texts a second of all processor time, in a process of its own."""
    user = pl.struct(role=pl.lit("user"), content="prompt")
    rows.select(messages=pl.concat_list(user), chosen="chosen").write_parquet(path)
    return float(run(Path(sys.executable), OWN, str(path))["texts_per_s"])


def run_peer(peers: Path, script: str, *arguments: str) -> dict[str, float]:
    """What a peer's script prints."""
    return run(peers / "bin" / "python", script, *arguments)


def run(python: Path, script: str, *arguments: str) -> dict[str, float]:
    """What a script prints as its last line."""
    done = subprocess.run([python, "-c", script, *arguments], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
