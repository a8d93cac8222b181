"""k-means: labels are those of float64 distances, the objective decreases, no cluster is empty, errors are typed."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
import textwrap
from typing import get_args

import nseekfs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from nseekfs import InputError, InputTypeError
from nseekfs._typing import ClusterMetric
from nseekfs.cluster import KMeans, MiniBatchKMeans, NotFittedError, SubspaceMiniBatchKMeans

RNG = np.random.default_rng(17)
BLOBS = (RNG.standard_normal((600, 12)) + 6 * RNG.standard_normal((9, 12))[RNG.integers(9, size=600)]).astype(
    np.float32
)
KINDS = {"KMeans": KMeans, "MiniBatchKMeans": MiniBatchKMeans, "SubspaceMiniBatchKMeans": SubspaceMiniBatchKMeans}


def keys(rows, centroids, metric):
    """The float64 value that ranks clusters for each row, by numpy; larger is nearer."""
    x, y = rows.astype(np.float64), centroids.astype(np.float64)
    if metric == "l2":
        return -((x[:, None] - y[None]) ** 2).sum(axis=2)
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None]
    return np.divide(x @ y.T, norms, out=np.zeros_like(norms), where=norms > 0)


def cost(rows, centroids, labels, metric):
    best = keys(rows, centroids, metric)[np.arange(len(rows)), labels]
    return float(-best.sum() if metric == "l2" else (1 - best).sum())


def check_labels(rows, centroids, labels, metric):
    """Check that no cluster is nearer to a row than its own, but for rounding, and that ties take the lowest number."""
    all_keys = keys(rows, centroids, metric)
    own = all_keys[np.arange(len(rows)), labels]
    slack = 1e-12 * (1 + np.abs(all_keys).max(axis=1)) + 1e-12 * (rows.astype(np.float64) ** 2).sum(axis=1)
    assert (all_keys.max(axis=1) - own <= slack).all()
    twins = {}
    for cell, centroid in enumerate(centroids):
        assert cell == twins.setdefault(centroid.tobytes(), cell) or not (labels == cell).any()


def finite_rows(max_rows=40, max_dims=9):
    values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, 1e-42])
    shapes = st.tuples(st.integers(1, max_rows), st.integers(1, max_dims))
    return shapes.flatmap(lambda shape: npst.arrays(np.float32, shape, elements=values))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@settings(deadline=None, max_examples=120)
@given(rows=finite_rows(), data=st.data())
def test_labels_are_the_nearest_centroids_of_float64(metric, rows, data):
    k = data.draw(st.integers(1, len(rows)))
    init = data.draw(st.sampled_from(["random", "k-means++"]))
    found = KMeans(k, metric=metric, init=init, max_iter=5, seed=data.draw(st.integers(0, 9))).fit(rows)
    check_labels(rows, found.centroids, found.labels, metric)
    assert (found.predict(rows) == found.labels).all()
    assert found.inertia == pytest.approx(
        cost(rows, found.centroids, found.labels, metric), rel=1e-9, abs=1e-9 * len(rows)
    )


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@settings(deadline=None, max_examples=60)
@given(rows=finite_rows(), data=st.data())
def test_the_objective_never_grows_and_no_cell_is_empty(metric, rows, data):
    k = data.draw(st.integers(1, len(rows)))
    found = KMeans(k, metric=metric, max_iter=20, tol=0, init="random").fit(rows)
    history = np.array(found.history)
    # Rounding a centroid to float32 may cost this much.
    slack = 1e-6 * ((rows.astype(np.float64) ** 2).sum() if metric == "l2" else len(rows))
    assert (np.diff(history) <= slack).all()
    if metric == "l2":
        distinct = len(np.unique(rows + 0.0, axis=0))
        assert len(np.unique(found.labels)) >= min(k, distinct)


@pytest.mark.parametrize(
    ("rows", "dims", "k"), [(1, 1, 1), (1, 300, 1), (50, 1, 7), (40, 4097, 5), (700, 33, 100), (90, 64, 90)]
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_every_shape_gives_the_labels_of_float64(rows, dims, k, metric):
    x = np.random.default_rng(dims).standard_normal((rows, dims)).astype(np.float32)
    found = KMeans(k, metric=metric, max_iter=10).fit(x)
    assert found.centroids.shape == (k, dims)
    assert found.centroids.dtype == np.float32
    assert found.labels.dtype == np.int64
    check_labels(x, found.centroids, found.labels, metric)
    directions = 2 if (metric, dims) == ("cosine", 1) else rows
    assert len(np.unique(found.labels)) == min(k, directions)
    if k == rows:
        assert found.inertia <= 1e-6 * rows * dims


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e9])
def test_labels_hold_far_from_the_origin_and_at_every_scale(offset, scale):
    x = ((np.random.default_rng(3).standard_normal((400, 20)) + offset) * scale).astype(np.float32)
    found = KMeans(30, max_iter=5).fit(x)
    check_labels(x / np.float64(scale), found.centroids / np.float64(scale), found.labels, "l2")
    far = np.concatenate([x, x * np.float32(100), np.full((1, 20), 1e18, np.float32)])
    check_labels(far / np.float64(scale), found.centroids / np.float64(scale), found.predict(far), "l2")


def test_one_dimension_far_larger_than_the_others_hides_nothing():
    x = np.random.default_rng(4).standard_normal((500, 24)).astype(np.float32)
    x[:, 3] *= 1e6
    x[:, 5] = 7e8
    found = KMeans(40, max_iter=5).fit(x)
    check_labels(x, found.centroids, found.labels, "l2")


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_the_best_centroid_of_a_cell_is_the_mean_of_its_rows(metric):
    found = KMeans(9, metric=metric, max_iter=500, tol=0).fit(BLOBS)
    rows = BLOBS.astype(np.float64)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for cell in range(9):
        mean = rows[found.labels == cell].mean(axis=0)
        if metric == "cosine":
            mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(found.centroids[cell], mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_separate_blobs_are_found(kind):
    centres = 50 * np.eye(6, 12)
    truth = RNG.integers(6, size=900)
    x = (centres[truth] + RNG.standard_normal((900, 12))).astype(np.float32)
    found = kind(6, seed=3).fit(x)
    for cell in range(6):
        assert len(np.unique(truth[found.labels == cell])) == 1
    assert found.inertia == pytest.approx(cost(x, found.centroids, found.labels, "l2"), rel=1e-9)


def fitted(name, threads=None, seed=5, rows=BLOBS):
    options = {"batch_size": 128} if name != "KMeans" else {}
    if name == "SubspaceMiniBatchKMeans":
        options["n_subspaces"] = 3
    return KINDS[name](20, seed=seed, threads=threads, **options).fit(rows)


@pytest.mark.parametrize("name", KINDS)
def test_threads_change_no_bit_and_seeds_decide(name):
    one = fitted(name, threads=1)
    for threads in (2, 5):
        other = fitted(name, threads=threads)
        assert (other.centroids == one.centroids).all()
        assert (other.labels == one.labels).all()
        assert other.history == one.history
        assert other.inertia == one.inertia
    assert (fitted(name, seed=6).centroids != one.centroids).any()


@pytest.mark.parametrize("kernel", nseekfs.simd_info()["available"])
def test_kernels_change_no_bit(kernel, tmp_path):
    code = """
        import sys, numpy as np
        from nseekfs.cluster import KMeans, MiniBatchKMeans
        x = np.random.default_rng(1).standard_normal((800, 50)).astype(np.float32)
        parts = []
        for found in (KMeans(40, max_iter=8).fit(x), KMeans(40, metric="cosine").fit(x), MiniBatchKMeans(20).fit(x)):
            parts += [found.centroids.tobytes(), found.labels.tobytes()]
        open(sys.argv[1], "wb").write(b"".join(parts))
        """
    made = []
    for name in ("scalar", kernel):
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / name)]
        subprocess.run(command, check=True, env={**__import__("os").environ, "NSEEKFS_KERNEL": name})
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_copies_of_few_rows_use_no_more_cells_than_there_are_rows():
    x = np.repeat(BLOBS[:5], 30, axis=0)
    found = KMeans(12).fit(x)
    assert found.inertia == 0
    assert len(np.unique(found.labels)) == 5


def test_no_cell_is_empty_when_the_first_centroids_are_all_the_same():
    for kind in (KMeans, MiniBatchKMeans):
        found = kind(25, init=np.zeros((25, 12))).fit(BLOBS)
        assert len(np.unique(found.labels)) == 25


def test_zero_rows_go_to_the_first_cell_for_cosine():
    x = BLOBS[:50].copy()
    x[::7] = 0
    found = KMeans(4, metric="cosine").fit(x)
    assert (found.labels[::7] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-6)
    assert (KMeans(3, metric="cosine").fit(np.zeros((9, 2))).labels == 0).all()


def test_given_centroids_are_where_it_starts():
    init = BLOBS[[3, 30, 300]].astype(np.float64)
    found = KMeans(3, init=init, max_iter=1).fit(BLOBS)
    start = keys(BLOBS, init, "l2").argmax(axis=1)
    for cell in range(3):
        np.testing.assert_allclose(found.centroids[cell], BLOBS[start == cell].mean(axis=0), rtol=1e-5, atol=1e-5)
    assert found.n_iter == 1
    assert len(found.history) == 2


def test_training_on_a_sample_reads_so_many_rows():
    found = KMeans(10, max_points_per_centroid=20).fit(BLOBS)
    assert len(found.labels) == 200
    assert found.inertia / 200 < 3 * KMeans(10).fit(BLOBS).inertia / 600


FORMS = {
    "float16": BLOBS.astype(np.float16),
    "float64": BLOBS.astype(np.float64),
    "byte-swapped": BLOBS.astype(">f4"),
    "fortran": np.asfortranarray(BLOBS),
    "strided": np.repeat(BLOBS, 2, axis=0)[::2],
    "reversed": BLOBS[::-1][::-1],
    "columns": np.concatenate([BLOBS, BLOBS], axis=1)[:, 12:],
    "list": BLOBS.tolist(),
    "read-only": np.frombuffer(BLOBS.tobytes(), np.float32).reshape(BLOBS.shape),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_rows_gives_the_same_cells(form):
    rows = FORMS[form]
    expected = KMeans(7).fit(np.asarray(rows, np.float32).copy())
    found = KMeans(7).fit(rows)
    assert (found.centroids == expected.centroids).all()
    assert (found.predict(rows) == expected.labels).all()


def test_rows_are_never_changed():
    rows = BLOBS.copy()
    KMeans(5, metric="cosine").fit(rows).predict(rows)
    MiniBatchKMeans(5).fit(rows).partial_fit(rows)
    assert (rows == BLOBS).all()


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_scores_are_those_of_float64(metric):
    found = KMeans(6, metric=metric).fit(BLOBS)
    scores = found.predict_scores(BLOBS)
    expected = keys(BLOBS, found.centroids, metric)
    expected = np.sqrt(-expected) if metric == "l2" else expected
    assert scores.shape == (600, 6)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=2e-7, atol=1e-9)
    best = scores.argmin(axis=1) if metric == "l2" else scores.argmax(axis=1)
    assert (best == found.labels).all()


def test_a_batch_moves_centroids_to_the_mean_of_all_that_came():
    first, second = BLOBS[:300], BLOBS[300:]
    init = BLOBS[[0, 5, 9]]
    found = MiniBatchKMeans(3, init=init).partial_fit(first)
    one = keys(first, init, "l2").argmax(axis=1)
    middle = np.stack([first[one == cell].mean(axis=0, dtype=np.float64) for cell in range(3)])
    np.testing.assert_allclose(found.centroids, middle, rtol=1e-5, atol=1e-5)
    two = keys(second, found.centroids, "l2").argmax(axis=1)
    found.partial_fit(second)
    both, cells = np.concatenate([first, second]), np.concatenate([one, two])
    after = np.stack([both[cells == cell].mean(axis=0, dtype=np.float64) for cell in range(3)])
    np.testing.assert_allclose(found.centroids, after, rtol=1e-5, atol=1e-5)
    assert found.n_iter == 2
    with pytest.raises(NotFittedError):
        _ = found.labels


def test_batches_come_near_to_all_rows_at_once():
    whole = KMeans(30, seed=1).fit(BLOBS).inertia
    assert MiniBatchKMeans(30, batch_size=200, seed=1).fit(BLOBS).inertia < 1.25 * whole
    stream = MiniBatchKMeans(30, seed=1)
    for _ in range(40):
        stream.partial_fit(BLOBS[RNG.integers(600, size=200)])
    assert cost(BLOBS, stream.centroids, stream.predict(BLOBS), "l2") < 1.25 * whole


def test_each_subspace_is_a_mini_batch_kmeans_of_its_columns():
    found = fitted("SubspaceMiniBatchKMeans")
    assert found.centroids.shape == (3, 20, 4)
    assert found.labels.shape == (600, 3)
    scores = found.predict_scores(BLOBS)
    assert scores.shape == (600, 3, 20)
    for part in range(3):
        columns = BLOBS[:, 4 * part : 4 * part + 4]
        alone = MiniBatchKMeans(20, batch_size=128, seed=5 + part).fit(columns)
        assert (alone.centroids == found.centroids[part]).all()
        assert (alone.labels == found.labels[:, part]).all()
        assert (alone.predict_scores(columns) == scores[:, part]).all()
    assert (found.predict(BLOBS) == found.labels).all()
    stream = SubspaceMiniBatchKMeans(20, 3).partial_fit(BLOBS)
    assert stream.centroids.shape == (3, 20, 4)


def test_names_of_other_libraries_work():
    found = KMeans(n_clusters=4)
    assert found.train(BLOBS) == found.history
    assert found.cluster_centers_ is found.centroids
    assert (found.labels_ == found.fit_predict(BLOBS)).all()
    assert found.inertia_ == found.objective == found.inertia == found.history[-1]
    assert found.n_iter_ == found.n_iter == len(found.history) - 1
    assert found.n_features_in_ == 12
    assert SubspaceMiniBatchKMeans(4, 2).fit(BLOBS).n_features_in_ == 12


@pytest.mark.parametrize("name", KINDS)
def test_a_pickled_one_predicts_the_same(name):
    found = fitted(name)
    again = pickle.loads(pickle.dumps(found))
    assert (again.predict(BLOBS) == found.predict(BLOBS)).all()
    assert name in repr(again)


def clone(estimator):
    """What `sklearn.base.clone` does, with its checks."""
    params = {name: copy.deepcopy(value) for name, value in estimator.get_params(deep=False).items()}
    made = type(estimator)(**params)
    assert all(made.get_params(deep=False)[name] is value for name, value in params.items())
    return made


ODD = {
    "n_clusters": np.int64(4),
    "metric": "cos",
    "max_iter": 7,
    "tol": np.float32(0.01),
    "seed": 2**64 - 1,
    "threads": np.uint8(2),
    "progress": print,
}
"""Parameters of types other than those of the extension module."""


@pytest.mark.parametrize("name", KINDS)
def test_parameters_stay_as_they_were_given(name, capsys):
    odd = {**ODD, "init": BLOBS[:4]}
    if name.startswith("Sub"):
        odd.update(n_subspaces=np.int8(3), init=[BLOBS[:4, :4].tolist()] * 3)
    found = KINDS[name](**odd)
    for _ in range(2):
        params = found.get_params()
        assert list(params) == list(inspect.signature(KINDS[name]).parameters)
        assert all(params[key] is value and getattr(found, key) is value for key, value in odd.items())
        found.fit(BLOBS)
    again = clone(found)
    assert "not fitted" in repr(again)
    assert (again.fit(BLOBS).centroids == found.centroids).all()
    # Values that are not allowed are stored too; `fit` refuses them.
    assert KINDS[name](n_clusters=0, metric="l1").get_params()["metric"] == "l1"


@pytest.mark.parametrize("name", KINDS)
def test_parameters_that_are_set_count_from_the_next_fit_on(name):
    found = fitted(name)
    again = pickle.loads(pickle.dumps(found))
    cells = found.predict(BLOBS)
    for one in (found, again):
        assert one.set_params(n_clusters=5, metric="cosine", init=BLOBS[:2]) is one
        if name.startswith("Sub"):
            one.set_params(n_subspaces=4)
        assert (one.predict(BLOBS) == cells).all()
        assert one.n_features_in_ == 12
    assert found.set_params(init="random").fit(BLOBS).centroids.shape[-2] == 5
    before = found.get_params()
    with pytest.raises(InputError, match=r"expected some of n_clusters, .*got 'random_state'"):
        found.set_params(n_clusters=9, random_state=0)
    assert found.get_params() == before
    assert found.set_params() is found


@pytest.mark.parametrize("name", KINDS)
def test_y_is_ignored(name):
    expected, found = fitted(name), clone(fitted(name))
    y = np.arange(600)
    assert (found.fit(BLOBS, y).labels == expected.labels).all()
    assert (found.fit(X=BLOBS, y=y).labels == expected.labels).all()
    assert (found.fit_predict(BLOBS, y) == expected.labels).all()
    assert (found.fit_transform(BLOBS, y) == expected.transform(X=BLOBS)).all()
    assert found.score(BLOBS, y) == found.score(X=BLOBS) == expected.score(BLOBS)
    if name != "KMeans":
        assert (clone(found).partial_fit(BLOBS, y).centroids == clone(found).partial_fit(BLOBS).centroids).all()


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("name", KINDS)
def test_distances_and_scores_are_those_of_float64(name, metric):
    found = clone(fitted(name)).set_params(metric=metric).fit(BLOBS)
    assert found.score(BLOBS) == -found.inertia
    rows = np.concatenate([BLOBS[::7] * np.float32(1.5), np.zeros((1, 12), np.float32)])
    centroids = found.centroids if name.startswith("Sub") else found.centroids[None]
    columns = np.split(rows, len(centroids), axis=1)
    ranked = [keys(part, own, metric) for part, own in zip(columns, centroids)]
    expected = np.concatenate([np.sqrt(-one) if metric == "l2" else 1 - one for one in ranked], axis=1)
    distances = found.transform(rows.astype(np.float64))
    assert distances.dtype == np.float32
    assert distances.shape == (len(rows), 20 * len(centroids))
    assert distances.min() >= 0
    # 1 - cosine is a difference of float64 numbers near 1.
    np.testing.assert_allclose(distances, expected, rtol=2e-7, atol=1e-9 if metric == "l2" else 1e-15)
    nearest = distances.reshape(len(rows), len(centroids), 20).argmin(axis=2)
    assert (nearest == found.predict(rows).reshape(nearest.shape)).all()
    total = sum(-one.max(axis=1).sum() if metric == "l2" else (1 - one.max(axis=1)).sum() for one in ranked)
    assert found.score(rows) == pytest.approx(-total, rel=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_help_describes_every_parameter_once_and_every_method(name):
    kind = KINDS[name]
    parameters = list(inspect.signature(kind).parameters)
    described = re.findall(r"^(\w+) : ", inspect.getdoc(kind), re.MULTILINE)
    assert sorted(described) == sorted(parameters)
    methods = [member for member in dir(kind) if not member.startswith("_") and member not in parameters]
    assert all(inspect.getdoc(getattr(kind, method)) for method in methods)


@pytest.mark.parametrize("name", KINDS)
def test_results_before_a_fit_raise_not_fitted(name):
    fresh = KINDS[name](2)
    for ask in (
        lambda: fresh.predict(BLOBS),
        lambda: fresh.predict_scores(BLOBS),
        lambda: fresh.transform(BLOBS),
        lambda: fresh.score(BLOBS[0]),
        lambda: fresh.centroids,
        lambda: fresh.inertia,
        lambda: fresh.labels,
        lambda: fresh.history,
        lambda: fresh.n_iter,
    ):
        with pytest.raises(NotFittedError, match="fit"):
            ask()
    assert "not fitted" in repr(fresh)


def with_value(value, dtype=np.float32):
    rows = BLOBS.astype(dtype)
    rows[3, 2] = value
    return rows


BAD = {
    "NaN": (lambda: KMeans(2).fit(with_value(np.nan)), InputError, "X finite NaN row 3 column 2"),
    "infinity": (lambda: KMeans(2).fit(with_value(np.inf)), InputError, "X finite inf row 3 column 2"),
    "NaN in float64": (lambda: KMeans(2).fit(with_value(np.nan, np.float64)), InputError, "X finite NaN row 3"),
    "beyond float32": (lambda: KMeans(2).fit(with_value(1e39, np.float64)), InputError, "X float32 1e39 row 3"),
    "too long": (lambda: KMeans(2).fit(with_value(1e30)), InputError, "X 2^63 row 3"),
    "NaN in a batch": (lambda: MiniBatchKMeans(2).partial_fit(with_value(np.nan)), InputError, "X finite NaN"),
    "NaN in predict": (lambda: KMeans(2).fit(BLOBS).predict(with_value(np.nan)), InputError, "X finite NaN row 3"),
    "more cells than rows": (lambda: KMeans(601).fit(BLOBS), InputError, "n_clusters 1 600 601"),
    "batch too small": (lambda: MiniBatchKMeans(9).partial_fit(BLOBS[:8]), InputError, "n_clusters 1 8 9"),
    "no cells": (lambda: KMeans(0).fit(BLOBS), InputError, "n_clusters 1 0"),
    "half a cell": (lambda: KMeans(2.5).fit(BLOBS), InputTypeError, "n_clusters whole number 2.5"),
    "a row": (lambda: KMeans(1).fit(BLOBS[0]), InputError, "X (rows, dims) (12,)"),
    "no rows": (lambda: KMeans(1).fit(BLOBS[:0]), InputError, "X at least one (0, 12)"),
    "text": (lambda: KMeans(1).fit([["a"]]), InputTypeError, "X real numbers"),
    "wrong dims": (lambda: KMeans(2).fit(BLOBS).predict(BLOBS[:, :5]), InputError, "X 12 5"),
    "wrong dims of scores": (lambda: KMeans(2).fit(BLOBS).predict_scores(BLOBS[:, :5]), InputError, "X 12 5"),
    "wrong dims of a batch": (
        lambda: MiniBatchKMeans(2).partial_fit(BLOBS).partial_fit(BLOBS[:, :5]),
        InputError,
        "X 12 5",
    ),
    "metric": (lambda: KMeans(2, metric="l1").fit(BLOBS), InputError, "metric cosine l1"),
    "dot": (lambda: KMeans(2, metric="dot").fit(BLOBS), InputError, "metric l2 cosine dot"),
    "init": (lambda: KMeans(2, init="best").fit(BLOBS), InputError, "init random k-means++ best"),
    "init shape": (lambda: KMeans(2, init=BLOBS[:3]).fit(BLOBS), InputError, "init (2, 12) (3, 12)"),
    "init NaN": (lambda: KMeans(2, init=np.full((2, 12), np.nan)).fit(BLOBS), InputError, "init finite NaN row 0"),
    "init beyond float32": (lambda: KMeans(1, init=[[1e39] * 12]).fit(BLOBS), InputError, "init finite inf row 0"),
    "init kind": (lambda: KMeans(2, init=None).fit(BLOBS), InputTypeError, "init real numbers"),
    "init of batches": (
        lambda: MiniBatchKMeans(2, init=np.full((2, 12), np.inf)).partial_fit(BLOBS),
        InputError,
        "init finite inf row 0",
    ),
    "init of parts": (
        lambda: SubspaceMiniBatchKMeans(2, 3, init=np.ones((2, 2, 4))).fit(BLOBS),
        InputError,
        "init 3 2",
    ),
    "tol": (lambda: KMeans(2, tol=-1).fit(BLOBS), InputError, "tol finite 0 -1"),
    "tol NaN": (lambda: MiniBatchKMeans(2, tol=np.nan).fit(BLOBS), InputError, "tol finite NaN"),
    "max_iter": (lambda: KMeans(2, max_iter=0).fit(BLOBS), InputError, "max_iter 1 0"),
    "batch_size": (lambda: MiniBatchKMeans(2, 0).fit(BLOBS), InputError, "batch_size 1 0"),
    "patience": (lambda: MiniBatchKMeans(2, max_no_improvement=0).fit(BLOBS), InputError, "max_no_improvement 1 0"),
    "ratio": (lambda: MiniBatchKMeans(2, reassignment_ratio=1.0).fit(BLOBS), InputError, "reassignment_ratio 1"),
    "seed": (lambda: KMeans(2, seed=-1).fit(BLOBS), InputError, "seed 0 -1"),
    "threads": (lambda: KMeans(2, threads=0).fit(BLOBS), InputError, "threads 1 0"),
    "progress": (lambda: KMeans(2, progress=3).fit(BLOBS), InputTypeError, "progress callable 3"),
    "sample": (lambda: KMeans(2, max_points_per_centroid=0).fit(BLOBS), InputError, "max_points_per_centroid 1 0"),
    "parts": (lambda: SubspaceMiniBatchKMeans(2, 5).fit(BLOBS), InputError, "X n_subspaces=5 12"),
    "no parts": (lambda: SubspaceMiniBatchKMeans(2, 0).fit(BLOBS), InputError, "n_subspaces 1 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_that_says_what_is_wrong(case):
    call, kind, words = BAD[case]
    with pytest.raises(kind) as caught:
        call()
    text, (argument, *parts) = str(caught.value), words.split()
    assert text.startswith(f"{argument}: expected "), text
    assert all(part.lower() in text.lower() for part in parts), text


@pytest.mark.parametrize("metric", ["l1", "dot", "ip"])
def test_a_metric_that_is_refused_is_answered_with_those_that_are_not(metric):
    words = {word for alias in get_args(ClusterMetric) for word in get_args(alias)}
    for kind in KINDS.values():
        parts = {"n_subspaces": 2} if kind is SubspaceMiniBatchKMeans else {}
        with pytest.raises(InputError) as caught:
            kind(2, metric=metric, **parts).fit(BLOBS)
        listed = re.fullmatch(r"metric: expected one of (.*), got .*", str(caught.value))
        assert set(listed[1].split(", ")) == words
        for word in words:
            kind(2, metric=word, **parts).fit(BLOBS)


def test_ctrl_c_ends_training():
    code = """
        import signal, os
        import numpy as np
        from nseekfs.cluster import KMeans
        x = np.random.default_rng(0).standard_normal((20000, 64)).astype(np.float32)
        # The signal is ignored if the parent process was started in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def press(done, total):
            if done > 2:
                os.kill(os.getpid(), signal.SIGINT)
        try:
            KMeans(500, tol=0, max_iter=1_000_000, progress=press).fit(x)
        except KeyboardInterrupt:
            print("stopped")
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "stopped\n", done.stderr
