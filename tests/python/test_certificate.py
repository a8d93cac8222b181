"""`hits.certificate` replayed: what it says of the rows that were not read must hold in float64."""

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
            assert told.rows == allowed.sum()
            assert told.kth == hits.keys[-1]
            assert sign * told.left <= sign * told.kth
            assert k <= told.refined <= told.rows
            assert np.sum(keys[allowed] > sign * told.left) <= told.refined


def test_codes_leave_most_rows_unread() -> None:
    x = made("power law")
    told = nseekfs.from_embeddings(x).query(x[3] + 0.1).certificate
    assert 10 <= told.refined < told.looked < told.rows / 10
    assert 0 < told.bytes < told.rows * DIMS * 4 / 2
    assert 0 < told.left <= told.kth < 1


def test_rows_that_are_all_read_leave_nothing() -> None:
    x = made("power law")
    for index in (nseekfs.from_embeddings(x, method="simd"), nseekfs.from_embeddings(x, codes=False)):
        told = index.query(x[3]).certificate
        assert (told.rows, told.refined, told.looked, told.bytes) == (ROWS, ROWS, 0, ROWS * DIMS * 4)
        assert told.left == -np.inf
    told = index.query(x[3], similarity="euclidean", max_distance=0.5).certificate
    assert told.left == np.inf
    assert 0.25 <= told.kth < 0.25 * (1 + 1e-9)


def test_a_slice_keeps_the_certificate() -> None:
    x = made("power law")[:100]
    hits = nseekfs.from_embeddings(x).query(x[3])
    assert hits[2:4].certificate is hits.certificate
