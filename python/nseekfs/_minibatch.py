"""k-means on batches of rows."""

from typing import Any, Self

from nseekfs import _arguments, _core
from nseekfs._clusters import Init, WholeRows, first_centroids, maybe_count, rows_of
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors


class MiniBatchKMeans(WholeRows):
    """k-means on batches of rows: a centroid is the mean of all rows that have come to it.

    Parameters
    ----------
    n_clusters : int
        How many cells, from 1 to the number of rows.
    batch_size : int, optional
        Rows of a batch that `fit` draws; eight for each cell, 1024 at least, if not given.
    metric : {"l2", "cosine"}
        What rows are compared by; aliases as in `nseekfs.from_embeddings`. For ``"cosine"`` rows count with
        length 1, and so do centroids (spherical k-means).
    init : {"k-means++", "random"} or array_like, shape (n_clusters, dims)
        The first centroids: rows of the first batches far from each other; any of these rows; or the ones given.
    max_iter : int
        `fit` draws as many rows as there are at most so many times.
    tol : float
        What counts as no improvement of the smoothed objective, as a part of it.
    max_no_improvement : int, optional
        `fit` ends after so many batches in a row without an improvement; None: never.
    reassignment_ratio : float
        A cell to which less than this part of the rows of the largest have come moves into a large one.
    seed : int
        What every random choice starts from, from 0.
    threads : int, optional
        How many threads may work, from 1; all that the process may use if not given.
    progress : callable, optional
        Called by `fit` with (batches done, batches at most) after each.

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

    def __init__(
        self,
        n_clusters: Count = 8,
        batch_size: Count | None = None,
        *,
        metric: ClusterMetric = "l2",
        init: Init = "k-means++",
        max_iter: Count = 100,
        tol: float = 0.03,
        max_no_improvement: Count | None = 6,
        reassignment_ratio: float = 0.01,
        seed: Count = 0,
        threads: Count | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(n_clusters, metric, max_iter, tol, seed, threads, progress)
        self.init = init
        asked = maybe_count("batch_size", batch_size)
        self.batch_size = max(1024, 8 * self.n_clusters) if asked is None else asked
        self.max_no_improvement = maybe_count("max_no_improvement", max_no_improvement)
        self.reassignment_ratio = _arguments.real("reassignment_ratio", reassignment_ratio)
        self._learner: _core.MiniBatch | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what `partial_fit` has counted: it starts from the centroids, anew."""
        return {**super().__getstate__(), "_learner": None}

    def fit(self, vectors: Vectors) -> Self:
        """Find centroids of the rows by batches drawn from them.

        `history` then holds the mean cost of each batch at the centroids before it. At the end every centroid moves
        once to the mean of all rows nearest to it, and a cell without rows takes over one of a costly cell.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on the CPU.
            Never changed. Every value is rounded once to float32.

        Returns
        -------
        MiniBatchKMeans
            Itself.

        Raises
        ------
        InputError
            If rows or parameters cannot be used: NaN, infinity, fewer rows than cells, ...; `InputTypeError` if
            a type is wrong.
        """
        rows = rows_of(vectors)
        self._learner, trained = _core.train_batches(
            rows,
            self.n_clusters,
            self.metric,
            self.max_iter,
            self.tol,
            first_centroids(self.init, self.n_clusters, rows.shape[1]),
            self.batch_size,
            self.max_no_improvement,
            self.reassignment_ratio,
            self.seed,
            self.threads,
            self.progress,
        )
        self._keep(trained)
        return self

    def partial_fit(self, vectors: Vectors) -> Self:
        """Learn from one batch, on top of all before; nothing of it is kept.

        The first batch also gives the first centroids, so it has `n_clusters` rows at least unless `init` is an
        array. `history` gets the mean cost of the batch at the centroids before it.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Anything that `fit` takes.

        Returns
        -------
        MiniBatchKMeans
            Itself.

        Raises
        ------
        InputError
            If the rows cannot be used, `InputTypeError` if their type is wrong.
        """
        rows = rows_of(vectors)
        if self._learner is None:
            init = self.init if self._centroids is None else self._centroids
            self._learner = _core.MiniBatch(
                rows,
                self.n_clusters,
                self.metric,
                first_centroids(init, self.n_clusters, rows.shape[1]),
                self.reassignment_ratio,
                self.seed,
                self.threads,
            )
        self._history.append(self._learner.step(rows, self.threads))
        self._centroids, self._cells = self._learner.centroids, None
        self._labels = self._inertia = None
        self._n_iter += 1
        return self
