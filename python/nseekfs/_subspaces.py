"""k-means on batches of rows, for parts of the dimensions."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments
from nseekfs._clusters import Clusters, Floats, Init, given, rows_of
from nseekfs._errors import InputError
from nseekfs._minibatch import MiniBatchKMeans
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors


class SubspaceMiniBatchKMeans(Clusters[None]):
    """A `MiniBatchKMeans` for each part of the dimensions, as product quantisation wants them.

    Parameters
    ----------
    n_clusters : int
        How many cells every part has, from 1 to the number of rows.
    n_subspaces : int
        How many parts of equal width, from 1; they divide the dimensions of the rows.
    batch_size : int, optional
        Rows of a batch that `fit` draws; eight for each cell, 1024 at least, if not given.
    metric, init, max_iter, tol, max_no_improvement, reassignment_ratio, seed, threads
        As those of `MiniBatchKMeans`; an array of first centroids has the shape of `centroids`.
    progress : callable, optional
        Called by `fit` with (parts done, n_subspaces) after each.

    Notes
    -----
    Jegou, Douze and Schmid, *Product quantization for nearest neighbor search*, IEEE Transactions on Pattern
    Analysis and Machine Intelligence 33 (2011). `centroids` has the shape (n_subspaces, n_clusters,
    dims / n_subspaces), `labels` the shape (rows, n_subspaces); `inertia` is the sum over all parts.

    Examples
    --------
    >>> import numpy as np
    >>> from nseekfs.cluster import SubspaceMiniBatchKMeans
    >>> vectors = np.random.default_rng(0).standard_normal((1000, 8), np.float32)
    >>> found = SubspaceMiniBatchKMeans(16, 4).fit(vectors)
    >>> found.centroids.shape, found.predict(vectors).shape
    ((4, 16, 2), (1000, 4))
    """

    def __init__(
        self,
        n_clusters: Count = 8,
        n_subspaces: Count = 8,
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
        self.n_subspaces = _arguments.whole("n_subspaces", n_subspaces, 1)
        sets = None if isinstance(init, str) else given(init, 3)
        if sets is not None and len(sets) != self.n_subspaces:
            raise InputError(f"init: expected {self.n_subspaces} sets of centroids, got {len(sets)}")
        self.parts: Sequence[MiniBatchKMeans] = [
            MiniBatchKMeans(
                n_clusters,
                batch_size,
                metric=metric,
                init=init if sets is None else sets[part],
                max_iter=max_iter,
                tol=tol,
                max_no_improvement=max_no_improvement,
                reassignment_ratio=reassignment_ratio,
                seed=(self.seed + part) % 2**64,
                threads=threads,
            )
            for part in range(self.n_subspaces)
        ]
        """The k-means of each part."""

    def fit(self, vectors: Vectors) -> Self:
        """Find centroids of every part of the rows, by batches drawn from them.

        `history` then holds one list a part, as that of `MiniBatchKMeans`.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Anything that `KMeans.fit` takes; `dims` is a multiple of `n_subspaces`.

        Returns
        -------
        SubspaceMiniBatchKMeans
            Itself.

        Raises
        ------
        InputError
            If rows or parameters cannot be used: NaN, infinity, fewer rows than cells, dimensions that cannot be
            divided, ...; `InputTypeError` if a type is wrong.
        """
        for done, (part, rows) in enumerate(zip(self.parts, self._split(vectors), strict=True), start=1):
            part.fit(rows)
            if self.progress is not None:
                self.progress(done, self.n_subspaces)
        self._labels = np.stack([part.labels for part in self.parts], axis=1)
        self._inertia = sum(part.inertia for part in self.parts)
        self._gather()
        return self

    def train(self, vectors: Vectors) -> list[list[float]]:
        """`fit`, returning `history`."""
        return self.fit(vectors).history

    def partial_fit(self, vectors: Vectors) -> Self:
        """Learn from one batch, on top of all before; nothing of it is kept.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            As for `MiniBatchKMeans.partial_fit`.

        Returns
        -------
        SubspaceMiniBatchKMeans
            Itself.
        """
        for part, rows in zip(self.parts, self._split(vectors), strict=True):
            part.partial_fit(rows)
        self._labels = self._inertia = None
        self._gather()
        return self

    @property
    def history(self) -> list[list[float]]:  # type: ignore[override]
        """How the objective of each part fell; see `fit`."""
        self._known(self._centroids)
        return [part.history for part in self.parts]

    def predict(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """The nearest cell of every part of every row.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Anything that `fit` takes.

        Returns
        -------
        ndarray of int64, shape (rows, n_subspaces)
        """
        self._known(self._centroids)
        split = self._split(vectors)
        return np.stack([part.predict(rows) for part, rows in zip(self.parts, split, strict=True)], axis=1)

    def predict_scores(self, vectors: Vectors) -> Floats:
        """The score of every cell for every part of every row: the distance, or the cosine.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Anything that `fit` takes.

        Returns
        -------
        ndarray of float32, shape (rows, n_subspaces, n_clusters)
        """
        self._known(self._centroids)
        split = self._split(vectors)
        return np.stack([part.predict_scores(rows) for part, rows in zip(self.parts, split, strict=True)], axis=1)

    def _gather(self) -> None:
        self._centroids = np.stack([part.centroids for part in self.parts])
        self._n_iter = max(part.n_iter for part in self.parts)

    def _split(self, vectors: Vectors) -> list[Floats]:
        """Views of the parts of the rows."""
        rows = rows_of(vectors)
        if rows.shape[1] % self.n_subspaces:
            raise InputError(
                f"vectors: expected rows whose length n_subspaces={self.n_subspaces} divides, "
                f"got {rows.shape[1]} values"
            )
        return np.split(rows, self.n_subspaces, axis=1)
