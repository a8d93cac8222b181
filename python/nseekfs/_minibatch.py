"""k-means on mini-batches."""

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Self

from nseekfs import _arguments, _core
from nseekfs._clusters import Clusterer, Fitted, Floats, Step, documented, rows_of
from nseekfs._typing import Count, Vectors


@documented
@dataclass(eq=False, repr=False)
class BatchClusterer(Clusterer[Step]):
    """Base of the k-means classes that train on mini-batches.

    Parameters
    ----------
    max_no_improvement : int, optional
        `fit` ends after this number of consecutive batches without an improvement; None disables the rule.
    reassignment_ratio : float
        The centroid of a cluster moves into a large cluster if the cluster has received less than this fraction of the
        rows of the largest cluster.
    """

    _: KW_ONLY
    max_iter: Count = 100
    tol: float = 0.03
    max_no_improvement: Count | None = 6
    reassignment_ratio: float = 0.01

    def partial_fit(self, X: Vectors, y: object = None) -> Self:  # noqa: ARG002
        """Update the centroids with one batch of rows. The rows are not stored.

        The first batch also gives the initial centroids, so it needs at least `n_clusters` rows unless `init` is an
        array. `labels` and `inertia` are not available afterwards. Parameters, return value and errors are those of
        `fit`.
        """
        self._fitted, self._assigner = self._learn(rows_of(X)), None
        return self

    @abstractmethod
    def _learn(self, rows: Floats) -> Fitted[Step]:
        """Update with one batch; the result becomes the state of the estimator."""


@documented
@dataclass(eq=False, repr=False)
class MiniBatchKMeans(BatchClusterer[float]):
    """k-means on mini-batches: a centroid is the mean of all rows that were assigned to it.

    At the end of `fit`, every centroid moves once to the mean of all rows nearest to it, and an empty cluster gets a
    row of a cluster with a high cost.

    Parameters
    ----------
    batch_size : int, optional
        Number of rows that `fit` draws for a batch. The default is 8 for each cluster, and at least 1024.

    Notes
    -----
    Sculley, *Web-scale k-means clustering*, WWW 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from nseekfs.cluster import MiniBatchKMeans
    >>> vectors = np.random.default_rng(0).standard_normal((1000, 8), np.float32)
    >>> found = MiniBatchKMeans(16, batch_size=256).fit(vectors)
    >>> found.centroids.shape
    (16, 8)
    >>> stream = MiniBatchKMeans(16)
    >>> for batch in np.split(vectors, 10):
    ...     stream = stream.partial_fit(batch)
    >>> stream.predict(vectors).shape
    (1000,)
    """

    batch_size: Count | None = None
    _learner: _core.MiniBatch | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the counts of `partial_fit`, which then starts from the centroids with counts of 0."""
        return {**super().__getstate__(), "_learner": None}

    def _train(self, rows: Floats, heard: _core.Progress | None) -> Fitted[float]:
        training = self._training(rows.shape[1])
        batch_size = _arguments.maybe_whole("batch_size", self.batch_size, 1)
        batches = (
            max(1024, 8 * training.n_clusters) if batch_size is None else batch_size,
            _arguments.maybe_whole("max_no_improvement", self.max_no_improvement, 1),
            self._least_share(),
        )
        self._learner, trained = _core.train_batches(rows, training, batches, heard)
        return Fitted(training.metric, *trained)

    def _learn(self, rows: Floats) -> Fitted[float]:
        before = self._fitted
        if self._learner is None or before is None:
            training = self._training(rows.shape[1], None if before is None else before.centroids)
            self._learner = _core.MiniBatch(rows, training, self._least_share())
            history, done = ([], 0) if before is None else (before.history, before.n_iter)
            before = Fitted(training.metric, self._learner.centroids, None, None, history, done)
        before.history.append(self._learner.step(rows, self._threads()))
        n_iter = before.n_iter + 1
        return before._replace(centroids=self._learner.centroids, labels=None, inertia=None, n_iter=n_iter)

    def _least_share(self) -> float:
        return _arguments.real("reassignment_ratio", self.reassignment_ratio)
