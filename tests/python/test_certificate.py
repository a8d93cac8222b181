"""`hits.certificate` holds: its bounds of the rows that were not refined are correct in float64."""

import nseekfs
import numpy as np
import pytest
import reference

ROWS, DIMS = 20_000, 96


def made(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((ROWS, DIMS)).astype(np.float32)
    if kind == "power law":
        x /= np.float32(1) + np.arange(DIMS, dtype=np.float32) / 8
    elif kind == "long and short":
        x *= np.exp(rng.uniform(-8, 8, (ROWS, 1))).astype(np.float32)
    elif kind == "duplicates":
        x = x[rng.integers(ROWS // 50, size=ROWS)]
    elif kind == "half zero":
        x[rng.random(ROWS) < 0.5] = 0
    return x


@pytest.mark.parametrize("kind", ["gaussian", "power law", "long and short", "duplicates", "half zero"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_no_row_that_was_left_is_better_than_the_certificate_says(kind: str, metric: str) -> None:
    x = made(kind)
    index = nseekfs.from_embeddings(x, metric=metric)
    assert index.codes
    sign = -1 if metric == "euclidean" else 1
    for number, query in enumerate([x[3], x[77] + 0.1, -x[5], np.ones(DIMS, np.float32)]):
        keys = sign * reference.keys(query, x, metric)
        allowed = np.arange(ROWS) % 3 > 0 if number % 2 else np.ones(ROWS, bool)
        for k in (1, 10, 100):
            hits = index.query(query, k, filter=allowed, threads=1 + number % 2)
            told = hits.certificate
            assert told.exact
            assert told.rows == allowed.sum()
            assert told.kth_key == hits.keys[-1]
            assert sign * told.best_bound_left <= sign * told.kth_key
            assert k <= told.refined <= told.rows
            assert np.sum(keys[allowed] > sign * told.best_bound_left) <= told.refined


def test_codes_leave_most_rows_unread() -> None:
    x = made("power law")
    told = nseekfs.from_embeddings(x).query(x[3] + 0.1).certificate
    assert 10 <= told.refined < told.bounded < told.rows / 10
    assert 0 < told.bytes_read < told.rows * DIMS * 4 / 2
    assert 0 < told.best_bound_left <= told.kth_key < 1


def test_rows_that_are_all_read_leave_nothing() -> None:
    x = made("power law")
    for index in (nseekfs.from_embeddings(x, method="simd"), nseekfs.from_embeddings(x, codes=False)):
        told = index.query(x[3]).certificate
        assert (told.rows, told.bounded, told.refined, told.bytes_read) == (ROWS, 0, ROWS, ROWS * DIMS * 4)
        assert told.best_bound_left == -np.inf
    told = index.query(x[3], similarity="euclidean", max_distance=0.5).certificate
    assert told.best_bound_left == np.inf
    assert 0.25 <= told.kth_key < 0.25 * (1 + 1e-9)


def test_the_fields_are_these_and_no_others() -> None:
    fields = ("rows", "bounded", "refined", "bytes_read", "kth_key", "best_bound_left", "exact")
    assert nseekfs.Certificate._fields == fields


def test_a_slice_keeps_the_certificate() -> None:
    x = made("power law")[:100]
    hits = nseekfs.from_embeddings(x).query(x[3])
    assert hits[2:4].certificate is hits.certificate
