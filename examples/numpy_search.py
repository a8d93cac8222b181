"""What the demo compares with: the float64 answer, numpy in float32 at its fastest setting, and a clock.

Scores are dot products. A table is read in blocks of rows, each block gives its best k, and the best of those remain.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BLOCKS = (1 << 14, 1 << 16, 1 << 32)
"""Rows of a block: the scores of a few queries fit a cache, or more of them, or the whole table is one block."""


def right(queries: Array, table: Array, found: Array, allowed: Array | None = None) -> int:
    """The number of queries whose rows found are the best in float64, best first; equal scores may swap places."""
    k = found.shape[1]
    wide = queries.astype(np.float64)
    best = np.full((len(queries), k), -np.inf)
    for first in range(0, len(table), BLOCKS[0]):
        part = slice(first, first + BLOCKS[0])
        scores = wide @ table[part].astype(np.float64).T
        if allowed is not None:
            scores[:, ~allowed[part]] = -np.inf
        best = np.sort(np.concatenate([best, np.partition(scores, -k, axis=1)[:, -k:]], axis=1), axis=1)[:, -k:]
    scores = np.einsum("qd,qkd->qk", wide, table[found].astype(np.float64))
    distinct = np.array([len(set(rows)) == k for rows in found.tolist()])
    return int((distinct & (np.abs(scores - best[:, ::-1]) < 1e-12).all(axis=1)).sum())


def search(queries: Array, table: Array, k: int, block: int) -> Array:
    """The rows of the best k scores of each query in float32, best first."""
    scores, rows = [], []
    for first in range(0, len(table), block):
        part = table[first : first + block]
        near = queries @ part.T if len(queries) > 1 else (part @ queries[0])[None]
        best = np.argpartition(near, -k, axis=1)[:, -k:]
        scores.append(np.take_along_axis(near, best, axis=1))
        rows.append(best + first)
    best = np.argsort(-np.concatenate(scores, axis=1), axis=1)[:, :k]
    return np.take_along_axis(np.concatenate(rows, axis=1), best, axis=1)


def fastest(queries: Array, table: Array, k: int) -> partial[Array]:
    """`search` of some queries at the size of blocks that takes the least time here."""
    useful = [block for block in BLOCKS if k <= (len(table) - 1) % block + 1]
    calls = [partial(search, table=table, k=k, block=block) for block in useful]
    seconds = medians([partial(call, queries) for call in calls], 2)
    return calls[int(np.argmin(seconds))]


def one_by_one(call: Callable[[Array], Any], queries: Array) -> None:
    """Give `call` one query at a time, as a matrix of one row."""
    for i in range(len(queries)):
        call(queries[i : i + 1])


def medians(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each call after one that does not count; the calls alternate."""
    seconds = np.empty((repeats + 1, len(calls)))
    for turn in range(repeats + 1):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            seconds[turn, i] = time.perf_counter() - start
    return [float(value) for value in np.median(seconds[1:], axis=0)]
