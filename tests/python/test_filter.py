"""Filters and limits apply before the best k are taken, at any selectivity."""

import nseekfs
import numpy as np
import pytest
import reference
from test_exact import LEVELS, METRICS, same

ROWS, DIMS = 5000, 40


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(21)
    rows = random.integers(-8, 9, (ROWS, DIMS)).astype(np.float32)
    return rows, random.standard_normal((19, DIMS)), random


@pytest.fixture(scope="module", params=LEVELS)
def level(request):
    return request.param


@pytest.fixture(scope="module")
def built(data, level):
    return nseekfs.from_embeddings(data[0], level=level), reference.stored(data[0], level)


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 64, 500, 2500, ROWS - 1, ROWS])
def test_a_filter_is_applied_before_selection(data, built, count):
    index, table = built
    queries = data[1]
    allowed = np.sort(data[2].permutation(ROWS)[:count])
    mask = np.isin(np.arange(ROWS), allowed)
    shuffled = np.concatenate([allowed[::-1], allowed[:3]])
    for metric in METRICS:
        expected = reference.top(queries, table, 10, metric, allowed)
        for rows in (mask, allowed, shuffled, shuffled.astype(np.uint16), shuffled.tolist(), mask.tolist()):
            found = reference.parts(index.search(queries, 10, similarity=metric, filter=rows))
            assert same(found, expected)
        for method in ("simd", "scalar"):
            for threads in (1, 2):
                hits = index.query(queries[0], similarity=metric, filter=mask, method=method, threads=threads)
                assert same(reference.parts(hits), [part[0] for part in expected])


@pytest.mark.parametrize("where", [slice(0, 40), slice(ROWS - 40, ROWS), slice(1000, 3000), slice(0, ROWS, 97)])
def test_rows_side_by_side_or_far_apart(data, built, where):
    index, table = built
    allowed = np.arange(ROWS)[where]
    expected = reference.top(data[1], table, 30, "cosine", allowed)
    assert same(reference.parts(index.search(data[1], 30, filter=allowed)), expected)
    hits = index.query(data[1][0], 30, filter=allowed)
    assert same(reference.parts(hits), [part[0] for part in expected])


@pytest.mark.parametrize("metric", METRICS)
def test_a_limit_compares_with_the_float64_score_and_includes_it(data, built, metric):
    index, table = built
    query = data[1][3]
    ids, _, found = (part[0] for part in reference.top(query[None], table, ROWS, metric))
    name = "max_distance" if metric == "euclidean" else "min_score"
    values = np.sqrt(found) if metric == "euclidean" else found
    outward = -np.inf if metric == "euclidean" else np.inf
    for place in (0, 5, 300, ROWS - 1):
        at = values[place]
        for limit in (at, np.nextafter(at, outward), np.nextafter(at, -outward)):
            keep = values <= limit if metric == "euclidean" else values >= limit
            hits = index.query(query, ROWS, similarity=metric, **{name: limit})
            assert np.array_equal(hits.indices, ids[keep])
            assert len(index.query(query, 7, similarity=metric, **{name: limit})) == min(7, keep.sum())


@pytest.mark.parametrize("metric", METRICS)
def test_a_limit_and_a_filter_together(data, built, metric):
    index, table = built
    query, allowed = data[1][4], np.arange(0, ROWS, 3)
    ids, _, found = (part[0] for part in reference.top(query[None], table, ROWS, metric, allowed))
    values = np.sqrt(found) if metric == "euclidean" else found
    name = "max_distance" if metric == "euclidean" else "min_score"
    hits = index.query(query, ROWS, similarity=metric, filter=allowed, **{name: float(values[99])})
    assert np.array_equal(hits.indices, ids[: len(hits)])
    assert len(hits) >= 100


def test_limits_that_nothing_or_everything_meets(data, built):
    index, _ = built
    query = data[1][0]
    assert index.query(query, min_score=2.0) == []
    assert index.query(query, similarity="l2", max_distance=-1.0) == []
    assert index.query(query, similarity="l2", max_distance=float("inf")) == index.query(query, similarity="l2")
    assert index.query(query, min_score=float("-inf")) == index.query(query)


def test_zeros_and_ones_are_row_numbers_where_they_cannot_be_a_mask():
    index = nseekfs.from_embeddings(np.eye(3, dtype=np.float32))
    assert index.query([0, 1, 0], filter=[1, 0]).indices.tolist() == [1, 0]
    assert index.query([0, 1, 0], filter=[1, 0, 1, 0]).indices.tolist() == [1, 0]
    two = nseekfs.from_embeddings(np.eye(2, dtype=np.float32))
    assert two.query([0, 1], filter=[0, 1]).indices.tolist() == [1, 0]


def test_nothing_allowed_finds_nothing(data, built):
    index, _ = built
    for nothing in ([], (), np.zeros(ROWS, bool), np.empty(0, np.int32)):
        assert index.query(data[1][0], filter=nothing) == []
        indices, scores = index.search(data[1], filter=nothing)
        assert indices.shape == scores.shape == (len(data[1]), 0)
        assert (indices.dtype, scores.dtype) == (np.int64, np.float32)
