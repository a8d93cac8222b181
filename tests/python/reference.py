"""The oracle: what exact means, in numpy and float64, one rounding at a time.

`stored`, `lane_sum`, `keys` and `order` are the definition. `top` is the same answer for large
tables: a float64 matrix product proposes every row that may belong to the best k, the definition
decides among them.
"""

import numpy as np


def stored(x, level):
    """The rows as an index of `level` holds them, decoded."""
    if level == "f8":
        scale = (np.abs(x.astype(np.float64)).max(axis=1, keepdims=True) / 127).astype(np.float32)
        codes = np.rint(x / np.where(scale == 0, 1, scale).astype(np.float64)).clip(-127, 127)
        return scale * np.where(scale == 0, 0, codes).astype(np.int8).astype(np.float32)
    return x.astype({"f64": np.float64, "f32": np.float32, "f16": np.float16}[level]).astype(
        np.float64 if level == "f64" else np.float32
    )


def lane_sum(terms):
    """Sums along the last axis in 32 lanes that start at +0.0 and are then added in halves."""
    lanes = np.zeros((*terms.shape[:-1], 32))
    for j in range(0, terms.shape[-1], 32):
        part = terms[..., j : j + 32]
        lanes[..., : part.shape[-1]] += part
    for half in (16, 8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
    return lanes[..., 0]


def keys(query, rows, metric):
    """The ranking key of every row; `rows` from `stored`, the query rounded to their type once."""
    q, x = query.astype(rows.dtype).astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return lane_sum((q - x) ** 2)
    dot = lane_sum(q * x)
    if metric == "dot":
        return dot
    norms = np.sqrt(lane_sum(q * q)) * np.sqrt(lane_sum(x * x))
    return np.where(norms == 0, 0.0, dot / np.where(norms == 0, 1.0, norms))


def order(found, metric):
    """Positions best key first, equal keys by position."""
    return np.argsort(found if metric == "euclidean" else -found, kind="stable")


def score(found, metric):
    """The float32 that users see."""
    return (np.sqrt(found) if metric == "euclidean" else found).astype(np.float32)


def top(queries, rows, k, metric, allowed=None):
    """Row numbers, scores and keys of the best k of the `allowed` rows, as `Index.search` returns them."""
    ids = np.arange(len(rows)) if allowed is None else np.sort(allowed)
    rows = rows if allowed is None else rows[ids]
    k = min(k, len(ids))
    answers = [_top(query, rows, k, metric, near) for query, near in zip(queries, _near(queries, rows, k, metric))]
    places, found = (np.array(part).reshape(len(queries), k) for part in zip(*answers))
    return ids[places], score(found, metric), found


def _top(query, rows, k, metric, near):
    found = keys(query, rows[near], metric)
    best = order(found, metric)[:k]
    return near[best], found[best]


def _near(queries, rows, k, metric):
    """For each query the rows that may be among the best k: float64, with room for any order of sums."""
    if len(rows) * rows.shape[1] < 1 << 16 or k >= len(rows):
        yield from (np.arange(len(rows)) for _ in queries)
        return
    q, x = queries.astype(rows.dtype).astype(np.float64), rows.astype(np.float64)
    q_norm, x_norm = np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1)
    for length, dots in zip(q_norm, q @ x.T):
        if metric == "euclidean":
            goodness, room = 2 * dots - x_norm**2, 1e-9 * (length + x_norm) ** 2
        elif metric == "dot":
            goodness, room = dots, 1e-9 * length * x_norm
        else:
            norms = length * x_norm
            goodness, room = np.where(norms == 0, 0.0, dots / np.where(norms == 0, 1.0, norms)), 1e-9
        floor = np.partition(goodness - room, len(rows) - k)[len(rows) - k]
        yield np.flatnonzero(goodness + room >= floor)
