"""Search real texts by meaning, then compare answers and speed with numpy, exact and approximate: `make demo`.

The texts, the questions and their embeddings (all-MiniLM-L6-v2) are in examples/data. No file is left behind.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np

DATA = Path(__file__).parent / "data"
Array = np.ndarray[Any, Any]


def main() -> None:
    texts = np.load(DATA / "texts_minilm_f16.npy").astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = nseekfs.create_index(texts, folder, base_name="demo")
        print(f"Saved {len(texts)} embeddings in {Path(path).stat().st_size} bytes. Another process opens the file.\n")
        subprocess.run([sys.executable, __file__, str(path)], check=True)
    large(texts)


def answer(path: str) -> None:
    """Open the saved index, search for all questions, print some results and the number of expected answers found."""
    texts, questions = (
        (DATA / name).read_text(encoding="utf-8").splitlines() for name in ("texts.txt", "questions.txt")
    )
    wanted = np.loadtxt(DATA / "answers.txt", dtype=np.int64)
    with nseekfs.load_index(path, verify="full") as index:
        print(index)
        found = index.search(np.load(DATA / "questions_minilm_f16.npy"), k=5)
    for i in range(0, len(questions), 15):
        print(f"\n{questions[i]}")
        for row, score in zip(found.indices[i, :3], found.scores[i, :3], strict=True):
            print(f"  {score:.3f}  {texts[row]}{'   <- expected answer' if row == wanted[i] else ''}")
    right = found.indices == wanted[:, None]
    first, five = right[:, 0].sum(), right.any(axis=1).sum()
    print(f"\nOf {len(questions)} expected answers, {first} rank first and {five} rank among the first five.")


def large(texts: Array, rows: int = 200_000, count: int = 20, k: int = 10) -> None:
    """Search a large table with real questions: compare the answers with float64, and the time with numpy."""
    table = blends(texts, rows)
    questions = np.load(DATA / "questions_minilm_f16.npy").astype(np.float32)
    queries, others = questions[:count], questions[count:]
    index = nseekfs.from_embeddings(table, ann="ivf")
    index.tune(queries=others)  # questions are unlike rows
    exact = partial(index.search, k=k, recall=1)
    print(f"\n{index}")
    best = best_float64(queries, table, k)
    same = np.array_equal(exact(queries).indices, best)
    print(f"Row numbers and order equal to those of float64 ({count} questions, top {k}): {same}")

    for name, batch in (("one question", queries[:1]), (f"{count} questions at once", queries)):
        found = np.mean(index.search(batch, k=k).indices[:, :, None] == best[: len(batch), None, :]) * k
        calls = partial(exact, batch), partial(index.search, batch, k), partial(best_numpy, batch, table, k)
        ours, near, theirs = interleaved(*calls)
        print(f"{name}: numpy float32 takes {theirs * 1e3:.1f} ms")
        print(f"  exact        {ours * 1e3:6.2f} ms, {theirs / ours:.0f} times as fast")
        print(f"  recall=0.95  {near * 1e3:6.2f} ms, {theirs / near:.0f} times as fast; {found:.0%} of the rows found")
    if not same:
        sys.exit("the answers differ from float64")


def blends(texts: Array, rows: int) -> Array:
    """Rows between three texts each, with noise of the covariance of texts: as good for codes as real embeddings."""
    rng = np.random.default_rng(7)
    spread, axes = np.linalg.eigh(np.cov(texts.T))
    noise = rng.standard_normal((rows, texts.shape[1]), dtype=np.float32) * np.sqrt(0.3 * spread.clip(0)).astype(
        np.float32
    )
    table: Array = noise @ axes.T.astype(np.float32)
    for share in rng.dirichlet((1, 1, 1), rows).T.astype(np.float32):
        table += share[:, None] * texts[rng.integers(len(texts), size=rows)]
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table


def best_float64(queries: Array, table: Array, k: int) -> Array:
    """Cosine in float64, best first, equal scores by row number."""
    dot = np.concatenate([queries.astype(np.float64) @ part.astype(np.float64).T for part in halves(table)], axis=1)
    norms = np.concatenate([np.sqrt(np.square(part, dtype=np.float64).sum(axis=1)) for part in halves(table)])
    return np.argsort(-dot / norms, axis=1, kind="stable")[:, :k]


def halves(table: Array, parts: int = 8) -> list[Array]:
    return np.array_split(table, parts)


def best_numpy(queries: Array, table: Array, k: int) -> Array:
    """The same search in float32 with numpy, for rows of length 1."""
    scores = queries @ table.T
    rows = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1)
    return np.take_along_axis(rows, order, axis=1)


def interleaved(*calls: Callable[[], Any], repeats: int = 9) -> list[float]:
    """Median seconds of each call; the calls alternate."""
    seconds = np.empty((repeats, len(calls)))
    for turn in range(repeats + 1):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if turn:  # the first round warms up caches and threads
                seconds[turn - 1, i] = time.perf_counter() - start
    return [float(value) for value in np.median(seconds, axis=0)]


if __name__ == "__main__":
    answer(sys.argv[1]) if len(sys.argv) > 1 else main()
