"""Tables, queries and the float64 answers that compare.py holds every engine to."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
TIE = 1e-12


def unit(rows: Array) -> Array:
    """Rows of length 1, in float32."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def make(data: str, rows: int, dims: int, queries: int, seed: int, jitter: float) -> tuple[Array, Array]:
    """A table and queries for it, both of unit rows.

    `gaussian` draws both. A .npy file is repeated until `rows` is reached, every copy but the first moved by
    noise of length about `jitter`; the queries are rows of the file moved likewise.
    """
    rng = np.random.default_rng(seed)
    if data == "gaussian":
        table = np.empty((rows, dims), np.float32)
        for start in range(0, rows, 65536):
            part = rng.standard_normal((min(65536, rows - start), dims), dtype=np.float32)
            table[start : start + len(part)] = unit(part)
        return table, unit(rng.standard_normal((queries, dims), dtype=np.float32))
    base = unit(np.load(data).astype(np.float32))
    scale = np.float32(jitter / np.sqrt(base.shape[1]))

    def moved(picked: Array) -> Array:
        return unit(picked + scale * rng.standard_normal(picked.shape, dtype=np.float32))

    asked = moved(base[rng.integers(len(base), size=queries)])
    table = np.empty((rows, base.shape[1]), np.float32)
    for start in range(0, rows, len(base)):
        part = base[: rows - start]
        table[start : start + len(part)] = part if start == 0 else moved(part)
    return table, asked


def reference(table: Array, queries: Array, k: int, metric: str) -> tuple[Array, Array]:
    """Row numbers of the best k in float64, equal scores by row, and the scores of every kept row.

    A few more than k rows are kept so that ties across the k-th place can be recognised.
    """
    asked = queries.astype(np.float64)
    if metric == "cosine":
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    keep = min(len(table), k + 32)
    scores = np.full((len(queries), 0), 0.0)
    ids = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(table), 32768):
        part = table[start : start + 32768].astype(np.float64)
        if metric == "cosine":
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        found = asked @ part.T
        scores = np.concatenate([scores, found], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(np.arange(start, start + len(part)), found.shape)], axis=1)
        order = np.lexsort((ids, -scores), axis=1)[:, :keep]
        scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return ids, scores


def check(found: Array, ids: Array, scores: Array, k: int) -> dict[str, float]:
    """Recall, and the number of queries whose rows are not the reference's in its order.

    A row counts as found, and as in its place, when its score is within 1e-12 of the one the reference has
    there: float64 sums in another order differ by less.
    """
    hits, wrong = 0, 0
    k = min(k, ids.shape[1])
    for answer, row_ids, row_scores in zip(found, ids[: len(found)], scores[: len(found)], strict=True):
        score_of = dict(zip(row_ids.tolist(), row_scores.tolist(), strict=True))
        got = np.array([score_of.get(row, -np.inf) for row in answer[:k].tolist()])
        hits += int(np.sum(got >= row_scores[k - 1] - TIE))
        distinct = len(set(answer[:k].tolist())) == k
        wrong += not (len(got) == k and distinct and bool(np.all(np.abs(got - row_scores[:k]) <= TIE)))
    return {"recall": hits / (k * len(found)), "other_order": wrong, "checked": len(found)}


def machine() -> str:
    """The machine, how busy it already is, and the day, in one line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = lines[0] if lines else model
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    today = datetime.date.today().isoformat()
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{model}, {cpus} CPUs, {load}; Python {platform.python_version()}, numpy {np.__version__}; {today}"
