"""Answers do not depend on the rounding and flush-to-zero modes of the process."""

import platform

import float_mode
import nseekfs
import numpy as np
import pytest
import reference
from nseekfs.cluster import KMeans, MiniBatchKMeans
from test_exact import LEVELS, METHODS, METRICS, same

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="sets the MXCSR register of x86-64")

MODES = {"flush": float_mode.FLUSH, **float_mode.ROUNDINGS}


def tiny(level):
    """Rows and queries whose values, products or sums are subnormal in the type of `level`."""
    random = np.random.default_rng(11)
    size = {"f64": 1e-160, "f32": 1e-40, "f16": 1e-6, "f8": 1e-36}[level]
    return random.standard_normal((400, 40)) * size, random.standard_normal((20, 40)) * size


def normal(_level):
    random = np.random.default_rng(12)
    return random.standard_normal((400, 40)), random.standard_normal((20, 40))


def test_the_modes_are_really_set():
    small = np.array([1e-310])
    with float_mode.changed(float_mode.FLUSH):
        flushed = (small * 0.5)[0]
    assert flushed == 0
    assert (small * 0.5)[0] > 0
    one, eps = np.array([1.0]), np.array([2.0**-60])
    with float_mode.changed(float_mode.ROUNDINGS["up"]):
        above = (one + eps)[0]
    assert above > 1


@pytest.mark.parametrize("make", [tiny, normal])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
def test_building_and_asking_are_the_same_in_every_mode(level, mode, make):
    rows, queries = make(level)
    table = reference.stored(rows, level)
    with float_mode.changed(MODES[mode]):
        index = nseekfs.from_embeddings(rows, level=level)
        decoded = index[:]
        found = {
            (metric, method, threads): (
                reference.parts(index.search(queries, 30, similarity=metric, method=method, threads=threads)),
                reference.parts(index.search(queries[:1], 30, similarity=metric, method=method, threads=threads)),
            )
            for metric in METRICS
            for method in METHODS
            for threads in (1, 2)
        }
    assert decoded.tobytes() == table.tobytes()
    for (metric, method, threads), (batch, single) in found.items():
        expected = reference.top(queries, table, 30, metric)
        assert same(batch, expected), (metric, method, threads)
        assert same(single, [part[:1] for part in expected]), (metric, method, threads)


@pytest.mark.parametrize("make", [tiny, normal])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_grouping_is_the_same_in_every_mode(metric, mode, make):
    rows, others = make("f32")

    def grouped():
        whole, batches = KMeans(7, metric=metric, seed=3), MiniBatchKMeans(7, metric=metric, seed=3, max_iter=3)
        parts = [
            (each.fit(rows).centroids, each.predict(others), each.predict_scores(others)) for each in (whole, batches)
        ]
        return [array.tobytes() for part in parts for array in part] + [whole.history, batches.history]

    expected = grouped()
    with float_mode.changed(MODES[mode]):
        found = grouped()
    assert found == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_visiting_few_rows_is_the_same_in_every_mode(ann, mode, tmp_path):
    # These are enough rows for codes.
    rows = np.random.default_rng(13).standard_normal((17_000, 64), dtype=np.float32)
    effort = nseekfs.Effort(nprobe=5 if ann == "ivf" else 9)

    def visited(folder):
        path = nseekfs.create_index(rows, tmp_path / folder, ann=ann)
        with nseekfs.load_index(path) as index:
            batch = reference.parts(index.search(rows[:30], 10, effort=effort))
            alone = [index.query(row, 10, effort=effort).keys.tobytes() for row in rows[:5]]
            measured = (index.recall(k=5, effort=effort), index.tune(0.8))
        with open(path, "rb") as file:
            return file.read(), [part.tobytes() for part in batch], alone, measured

    expected = visited("standard")
    with float_mode.changed(MODES[mode]):
        found = visited("changed")
    assert found == expected


@pytest.mark.parametrize("level", ["f64", "f32"])
def test_flushing_would_have_changed_the_answer(level):
    rows, queries = tiny(level)
    table = reference.stored(rows, level)
    with float_mode.changed(float_mode.FLUSH):
        flushed = reference.top(queries, table, 30, "dot")
    assert not same(flushed, reference.top(queries, table, 30, "dot"))
