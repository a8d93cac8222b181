"""k-means on batches of rows."""

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Self

from nseekfs import _arguments, _core
from nseekfs._clusters import Clusterer, Fitted, Floats, Step, documented, rows_of
from nseekfs._typing import Count, Vectors


@documented
@dataclass(eq=False, repr=False)
class BatchClusterer(Clusterer[Step]):
    """The base of k-means classes that learn from batches.

    Parameters
    ----------
    max_no_improvement : int, optional
        `fit` ends after so many batches in a row without an improvement; None: never.
    reassignment_ratio : float
        A cluster to which less than this part of the rows of the largest have come moves into a large one.
    """

    _: KW_ONLY
    max_iter: Count = 100
    tol: float = 0.03
    max_no_improvement: Count | None = 6
    reassignment_ratio: float = 0.01

    def partial_fit(self, X: Vectors, y: object = None) -> Self:  # noqa: ARG002
        """Learn from one batch, on top of all before; nothing of it is kept.

        The first batch also gives the first centroids, so it has `n_clusters` rows at least unless `init` is an
        array. `labels` and `inertia` are unknown from then on. Takes, returns and raises what `fit` does.
        """
        self._fitted, self._cells = self._learn(rows_of(X)), None
        return self

    @abstractmethod
    def _learn(self, rows: Floats) -> Fitted[Step]:
        """What `partial_fit` is to leave."""


@documented
@dataclass(eq=False, repr=False)
class MiniBatchKMeans(BatchClusterer[float]):
    """k-means on batches of rows: a centroid is the mean of all rows that have come to it.

    At the end of `fit` every centroid moves once to the mean of all rows nearest to it, and a cluster without rows
    takes over one of a costly cluster.

    Parameters
    ----------
    batch_size : int, optional
        Rows of a batch that `fit` draws; eight for each cluster, 1024 at least, if not given.

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
        """Without what `partial_fit` has counted: it starts from the centroids, anew."""
        return {**super().__getstate__(), "_learner": None}

    def _train(self, rows: Floats) -> Fitted[float]:
        training = self._training(rows.shape[1])
        asked = _arguments.maybe_whole("batch_size", self.batch_size, 1)
        batches = (
            max(1024, 8 * training.n_clusters) if asked is None else asked,
            _arguments.maybe_whole("max_no_improvement", self.max_no_improvement, 1),
            self._least_share(),
        )
        self._learner, trained = _core.train_batches(rows, training, batches, self._progress())
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
