"""Tables, queries and float64 answers for compare.py and other programs."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
TIE = 1e-12
GAUSSIAN = "gaussian"


def unit(rows: Array) -> Array:
    """The rows scaled to length 1, in float32."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


class Source(NamedTuple):
    """The source of rows and queries."""

    data: list[str]  # .npy files, concatenated, or GAUSSIAN alone
    queries: str | None  # a .npy file; None: queries are drawn like the rows
    rows: int  # 0: all rows of the files
    dims: int  # of gaussian rows
    jitter: float  # standard deviation of the noise of each value, before rows are scaled to length 1 again
    seed: int


def make(source: Source, count: int) -> tuple[Array, Array]:
    """A table and `count` queries, both with rows of length 1. The table does not depend on the queries.

    Gaussian rows have gaussian queries. Rows of files are repeated until there are enough, and noise is added to every
    copy but the first; their queries are rows of the files with the same noise. Queries of a file are shuffled and
    repeated as needed.
    """
    rng = np.random.default_rng(source.seed)
    if source.data == [GAUSSIAN]:
        table = gaussian(rng, source.rows, source.dims)
        queries = gaussian(rng, count, source.dims)
    else:
        base = np.concatenate([read(path) for path in source.data])
        table = copies(rng, base, source.rows or len(base), source.jitter)
        queries = moved(rng, base[rng.integers(len(base), size=count)], source.jitter)
    if source.queries is not None:
        given = read(source.queries)
        if given.shape[1] != table.shape[1]:
            raise ValueError(f"{source.queries} has {given.shape[1]} dimensions, the rows have {table.shape[1]}")
        queries = given[np.resize(rng.permutation(len(given)), count)]
    return table, queries


def describe(source: Source, held: int = 0) -> str:
    """A short description of the data with the names of files; `held` rows are held out as queries."""
    words = [" + ".join(Path(path).name for path in source.data)]
    if source.data != [GAUSSIAN] and (source.rows or (source.queries is None and not held)):
        words.append(f"jitter {source.jitter:g}")
    if source.queries is not None:
        words.append(f"queries {Path(source.queries).name}")
    if held:
        words.append(f"{held} of its rows held out as queries")
    return ", ".join(words)


def hold_out(table: Array, count: int, seed: int) -> tuple[Array, Array]:
    """The table without `count` randomly drawn rows, and these rows."""
    drawn = np.random.default_rng(seed).permutation(len(table))[:count]
    return np.delete(table, drawn, axis=0), table[drawn]


def read(path: str) -> Array:
    """The rows of a .npy file, scaled to length 1, in float32."""
    return unit(np.load(path).astype(np.float32))


def gaussian(rng: np.random.Generator, rows: int, dims: int) -> Array:
    """Isotropic rows of length 1."""
    table = np.empty((rows, dims), np.float32)
    for start in range(0, rows, 65536):
        part = table[start : start + 65536]
        part[:] = unit(rng.standard_normal(part.shape, dtype=np.float32))
    return table


def moved(rng: np.random.Generator, rows: Array, jitter: float) -> Array:
    """The rows with noise added to each value, scaled to length 1 again."""
    return unit(rows + np.float32(jitter) * rng.standard_normal(rows.shape, dtype=np.float32))


def copies(rng: np.random.Generator, base: Array, rows: int, jitter: float) -> Array:
    """The rows of `base`, followed by copies with noise."""
    table = np.empty((rows, base.shape[1]), np.float32)
    for start in range(0, rows, len(base)):
        part = base[: rows - start]
        table[start : start + len(part)] = part if start == 0 else moved(rng, part, jitter)
    return table


def reference(table: Array, queries: Array, k: int, metric: str) -> tuple[Array, Array]:
    """Row numbers and scores of the best rows in float64, equal scores by row number.

    32 rows more than k are returned, so that ties with the k-th row are known.
    """
    wide = queries.astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    keep = min(len(table), k + 32)
    scores = np.full((len(queries), 0), 0.0)
    ids = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(table), 32768):
        part = table[start : start + 32768].astype(np.float64)
        if metric == "cosine":
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        found = wide @ part.T
        scores = np.concatenate([scores, found], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(np.arange(start, start + len(part)), found.shape)], axis=1)
        ids, scores = best(ids, scores, keep)
    return ids, scores


def best(ids: Array, scores: Array, keep: int) -> tuple[Array, Array]:
    """The best of each query in order; only scores that reach the last of some query's best are sorted."""
    keep = min(keep, scores.shape[1])
    threshold = np.partition(scores, -keep, axis=1)[:, -keep, None]
    most = int((scores >= threshold).sum(axis=1).max())
    reach = np.argpartition(scores, -most, axis=1)[:, -most:]
    ids, scores = np.take_along_axis(ids, reach, axis=1), np.take_along_axis(scores, reach, axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :keep]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def check(found: Array, ids: Array, scores: Array, k: int) -> dict[str, float]:
    """The recall, and the number of queries whose rows or their order differ from the reference.

    A row counts as correct if its score is within 1e-12 of the reference score of the same rank, because float64 sums
    in another order differ by less.
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
    """The CPU, the load, the versions of Python and numpy, and the date, in one line."""
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
