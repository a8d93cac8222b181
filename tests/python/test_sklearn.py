"""The k-means classes inside scikit-learn, where it is installed; `test_cluster.py` tests the protocol without it."""

import warnings

import numpy as np
import pytest
from nseekfs.cluster import KMeans, MiniBatchKMeans, SubspaceMiniBatchKMeans

sklearn = pytest.importorskip("sklearn", reason="SKIPPED: scikit-learn is not installed (pip install scikit-learn)")

from sklearn import base, cluster, exceptions, linear_model, model_selection, pipeline, preprocessing  # noqa: E402
from sklearn.utils import validation  # noqa: E402

RNG = np.random.default_rng(29)
CENTRES = 20 * RNG.standard_normal((5, 8))
TRUTH = RNG.integers(5, size=400)
ROWS = CENTRES[TRUTH] + RNG.standard_normal((400, 8))
KINDS = [KMeans, MiniBatchKMeans, SubspaceMiniBatchKMeans]


def made(kind, **options):
    return kind(5, 2, **options) if kind is SubspaceMiniBatchKMeans else kind(5, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_is_fitted_to_the_same(kind):
    found = made(kind, seed=3).fit(ROWS)
    again = base.clone(found)
    assert base.is_clusterer(again)
    with pytest.raises(exceptions.NotFittedError):
        validation.check_is_fitted(again)
    assert (again.fit(ROWS).centroids == found.centroids).all()
    validation.check_is_fitted(again)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_ends_in_one_or_goes_on_from_it(kind):
    last = pipeline.make_pipeline(preprocessing.StandardScaler(), made(kind))
    scaled = preprocessing.StandardScaler().fit_transform(ROWS)
    alone = made(kind).fit(scaled)
    assert (last.fit(ROWS, TRUTH).predict(ROWS) == alone.labels).all()
    assert (last.transform(ROWS) == alone.transform(scaled)).all()
    assert last.score(ROWS) == -alone.inertia
    assert (base.clone(last).fit_predict(ROWS) == alone.labels).all()
    assert (base.clone(last).fit_transform(ROWS) == alone.transform(scaled)).all()
    assert type(alone).__name__ in last._repr_html_()
    onward = pipeline.Pipeline([("cluster", made(kind)), ("classify", linear_model.RidgeClassifier())])
    assert onward.set_params(cluster__seed=4).fit(ROWS, TRUTH).score(ROWS, TRUTH) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_over_parameters_chooses_by_score(kind):
    search = model_selection.GridSearchCV(made(kind), {"n_clusters": [2, 5], "init": ["random", "k-means++"]}, cv=3)
    search.fit(ROWS)
    assert search.best_params_["n_clusters"] == 5
    assert search.best_score_ < 0
    assert search.predict(ROWS).shape[0] == 400
    assert search.transform(ROWS).dtype == np.float32


def test_the_same_centroids_give_what_scikit_learn_gives():
    found = KMeans(5).fit(ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        peer = cluster.KMeans(5, init=found.centroids, n_init=1, max_iter=1).fit(ROWS.astype(np.float32))
    peer.cluster_centers_ = found.centroids
    np.testing.assert_allclose(found.transform(ROWS), peer.transform(ROWS.astype(np.float32)), rtol=1e-4)
    assert found.score(ROWS) == pytest.approx(peer.score(ROWS.astype(np.float32)), rel=1e-5)
    assert (found.predict(ROWS) == peer.predict(ROWS.astype(np.float32))).all()
