"""The definition of the exact answer, in numpy and float64, one rounding at a time.

`stored`, `lane_sum`, `keys` and `order` are the definition. `top` computes the same answer for large tables: a
float64 matrix product selects every row within 1e-9 of the k-th best, and the definition ranks these. `Table` caches
what many queries to one table share.
"""

import numpy as np

# Number of queries whose products with all rows are in memory at once.
QUERY_BLOCK = 32


def stored(x, level):
    """The decoded rows of an index of this level."""
    if level == "f8":
        scale = (np.abs(x.astype(np.float64)).max(axis=1, keepdims=True) / 127).astype(np.float32)
        codes = np.rint(x / np.where(scale == 0, 1, scale).astype(np.float64)).clip(-127, 127)
        return scale * np.where(scale == 0, 0, codes).astype(np.int8).astype(np.float32)
    if level == "b1":
        return np.packbits(x > 0, axis=1)
    return x.astype({"f64": np.float64, "f32": np.float32, "f16": np.float16}[level]).astype(
        np.float64 if level == "f64" else np.float32
    )


def lane_sum(terms):
    """Sums along the last axis: in 32 lanes that start at +0.0 and are then added in halves."""
    lanes = np.zeros((*terms.shape[:-1], 32))
    for j in range(0, terms.shape[-1], 32):
        part = terms[..., j : j + 32]
        lanes[..., : part.shape[-1]] += part
    for half in (16, 8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
    return lanes[..., 0]


def keys(query, rows, metric):
    """The ranking key of every row of `stored`; the query is rounded once to the type of the rows."""
    q, x = query.astype(rows.dtype).astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return lane_sum((q - x) ** 2)
    dot = lane_sum(q * x)
    if metric == "dot":
        return dot
    norms = np.sqrt(lane_sum(q * q)) * np.sqrt(lane_sum(x * x))
    return np.where(norms == 0, 0.0, dot / np.where(norms == 0, 1.0, norms))


def order(found, metric):
    """Positions in order of rank: best key first, equal keys by position."""
    return np.argsort(found if metric == "euclidean" else -found, kind="stable")


def score(found, metric):
    """The float32 score of a key."""
    return (np.sqrt(found) if metric == "euclidean" else found).astype(np.float32)


def top(queries, rows, k, metric, allowed=None):
    """Row numbers, scores and keys of the best k of the `allowed` rows, as `Index.search` returns them."""
    return Table(rows).top(queries, k, metric, allowed)


def parts(found):
    """The three arrays of a `SearchResult` or `Hits`."""
    return found.indices, found.scores, found.keys


class Table:
    """The rows of `stored`, with their float64 values and norms computed once for any number of queries."""

    def __init__(self, rows):
        self.rows = rows
        self.wide = rows.astype(np.float64)
        self.lengths = np.linalg.norm(self.wide, axis=1)

    def top(self, queries, k, metric, allowed=None):
        """As the function `top`."""
        ids = np.arange(len(self.rows)) if allowed is None else np.unique(allowed)
        k = min(k, len(ids))
        answers = [
            self._best(query, near, k, metric) for query, near in zip(queries, self._near(queries, ids, k, metric))
        ]
        ids, found = (np.array(part).reshape(len(queries), k) for part in zip(*answers))
        return ids, score(found, metric), found

    def _best(self, query, near, k, metric):
        found = keys(query, self.rows[near], metric)
        best = order(found, metric)[:k]
        return near[best], found[best]

    def _near(self, queries, ids, k, metric):
        """For each query, the rows of `ids` that may be among the best k for any order of float64 sums."""
        if len(ids) * self.rows.shape[1] < 1 << 16 or k >= len(ids):
            yield from (ids for _ in queries)
            return
        q, lengths = queries.astype(self.rows.dtype).astype(np.float64), self.lengths[ids]
        for start in range(0, len(q), QUERY_BLOCK):
            some = q[start : start + QUERY_BLOCK]
            for length, dots in zip(np.linalg.norm(some, axis=1), some @ self.wide.T):
                closeness, slack = _closeness(length, lengths, dots if len(ids) == len(dots) else dots[ids], metric)
                threshold = np.partition(closeness - slack, len(ids) - k)[len(ids) - k]
                yield ids[closeness + slack >= threshold]


def _closeness(length, lengths, dots, metric):
    """A value that grows as the key gets better, and the largest error of it."""
    if metric == "euclidean":
        return 2 * dots - lengths**2, 1e-9 * (length + lengths) ** 2
    if metric == "dot":
        return dots, 1e-9 * length * lengths
    norms = length * lengths
    return np.divide(dots, norms, out=np.zeros_like(dots), where=norms != 0), 1e-9
