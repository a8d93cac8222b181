"""k-means: rows grouped around centroids, on all rows or on batches, whole or by parts of the dimensions.

>>> import numpy as np
>>> from nseekfs.cluster import KMeans
>>> vectors = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
>>> KMeans(2, seed=1).fit(vectors).inertia
1.0

A row belongs to the cell of its nearest centroid by float64 sums, of equally near ones to the lower, so labels
and centroids are the same on every CPU and for any number of threads: seed, rows and parameters decide them.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._errors import Error, InputError, InputTypeError
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors

__all__ = ["KMeans", "MiniBatchKMeans", "NotFittedError", "SubspaceMiniBatchKMeans"]

Init: TypeAlias = Literal["k-means++", "random"] | Vectors
Floats: TypeAlias = npt.NDArray[np.float32]
_Trained: TypeAlias = tuple[Floats, npt.NDArray[np.int64], float, npt.NDArray[np.float64], int]
_Cells = TypeVar("_Cells")
_Known = TypeVar("_Known")


class NotFittedError(Error, ValueError, AttributeError):
    """Centroids were asked for before there were any."""


class _Clusters(Generic[_Cells]):
    """What the three have in common: parameters and, once fitted, what came of them."""

    def __init__(
        self,
        n_clusters: Count,
        metric: ClusterMetric,
        max_iter: Count,
        tol: float,
        seed: Count,
        threads: Count | None,
        progress: Progress | None,
    ) -> None:
        self.n_clusters = _arguments.whole("n_clusters", n_clusters, 1)
        self.metric = _arguments.word("metric", metric)
        self.max_iter = _arguments.whole("max_iter", max_iter, 1)
        self.tol = _arguments.real("tol", tol)
        self.seed = _arguments.whole("seed", seed, 0, 2**64 - 1)
        self.threads = _arguments.maybe_whole("threads", threads)
        if progress is not None and not callable(progress):
            raise InputTypeError(f"progress: expected a callable, got {_arguments.shown(progress)}")
        self.progress = progress
        self._centroids: Floats | None = None
        self._cells: _Cells | None = None
        self._labels: npt.NDArray[np.int64] | None = None
        self._inertia: float | None = None
        self._history: list[float] = []
        self._n_iter = 0

    def __repr__(self) -> str:
        state = "not fitted" if self._centroids is None else f"centroids of shape {self._centroids.shape}"
        return f"{type(self).__name__}(n_clusters={self.n_clusters}, metric={self.metric!r}: {state})"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the compiled part, which is made again, and the callable."""
        return {**self.__dict__, "_cells": None, "progress": None}

    @property
    def centroids(self) -> Floats:
        """The centroids, float32, one in each row; for ``"cosine"`` of length 1."""
        return self._known(self._centroids)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The cell of each row that `fit` was given, int64."""
        return self._known(self._labels)

    @property
    def inertia(self) -> float:
        """The sum of squared distances of these rows to their centroids; for ``"cosine"`` of 1 - cosine."""
        return self._known(self._inertia)

    @property
    def objective(self) -> float:
        """The same as `inertia`."""
        return self.inertia

    @property
    def history(self) -> list[float]:
        """How the objective fell; see `fit`."""
        self._known(self._centroids)
        return list(self._history)

    @property
    def n_iter(self) -> int:
        """How many times the centroids were moved."""
        self._known(self._centroids)
        return self._n_iter

    # The names of scikit-learn.
    cluster_centers_ = centroids
    labels_ = labels
    inertia_ = inertia
    n_iter_ = n_iter

    @property
    def n_features_in_(self) -> int:
        """How many numbers a row has."""
        shape = self.centroids.shape
        return int(np.prod(shape) // self.n_clusters)

    def _known(self, value: _Known | None) -> _Known:
        if value is None:
            raise NotFittedError(f"{type(self).__name__}: expected fit() to have been called first")
        return value


class _WholeRows(_Clusters[_core.Cells]):
    """Prediction by one set of centroids."""

    def predict(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """The nearest cell of every row.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Anything that `fit` takes.

        Returns
        -------
        ndarray of int64, shape (rows,)

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the rows cannot be used, `InputTypeError` if their type is wrong.
        """
        return self._ready().assign(_rows(vectors), self.threads)

    def predict_scores(self, vectors: Vectors) -> Floats:
        """The score of every cell for every row: the distance, smaller being nearer, or the cosine.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Anything that `fit` takes.

        Returns
        -------
        ndarray of float32, shape (rows, n_clusters)
            Float64 sums, rounded.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the rows cannot be used, `InputTypeError` if their type is wrong.
        """
        return self._ready().scores(_rows(vectors), self.threads)

    def _ready(self) -> _core.Cells:
        if self._cells is None:
            self._cells = _core.Cells(self.centroids, self.metric, self.threads)
        return self._cells

    def _keep(self, trained: _Trained) -> None:
        centroids, labels, inertia, history, n_iter = trained
        self._centroids, self._labels, self._inertia = centroids, labels, inertia
        self._history, self._n_iter, self._cells = history.tolist(), n_iter, None


class KMeans(_WholeRows):
    """k-means on all rows at once.

    Parameters
    ----------
    n_clusters : int
        How many cells, from 1 to the number of rows.
    metric : {"l2", "cosine"}
        What rows are compared by; aliases as in `nseekfs.from_embeddings`. For ``"cosine"`` rows count with
        length 1, and so do centroids (spherical k-means).
    init : {"k-means++", "random"} or array_like, shape (n_clusters, dims)
        The first centroids: rows far from each other, chosen from a sample of four for each; any rows; or these.
    max_iter : int
        How many times the centroids are moved at most.
    tol : float
        Training ends once a move lowers the objective by no more than this part of it.
    max_points_per_centroid : int, optional
        Train on so many rows a cell at most, drawn at random. `labels` and `inertia` are then those of the sample.
    seed : int
        What every random choice starts from, from 0.
    threads : int, optional
        How many threads may work, from 1; all that the process may use if not given.
    progress : callable, optional
        Called with (iterations done, max_iter) after each.

    Notes
    -----
    Lloyd, *Least squares quantization in PCM*, IEEE Transactions on Information Theory 28 (1982); Arthur and
    Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007. A cell that has lost its rows takes
    over one of a costly cell, so none is empty as long as there are `n_clusters` different rows.

    Beside the rows, in float32, training keeps some 30 bytes a row and a few copies of the centroids.

    Examples
    --------
    >>> import numpy as np
    >>> from nseekfs.cluster import KMeans
    >>> vectors = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]], np.float32)
    >>> found = KMeans(2, seed=1).fit(vectors)
    >>> sorted(found.centroids.tolist())
    [[0.0, 0.5], [9.0, 8.5]]
    >>> bool(found.labels[0] == found.predict([[1.0, 1.0]])[0])
    True
    """

    def __init__(
        self,
        n_clusters: Count = 8,
        *,
        metric: ClusterMetric = "l2",
        init: Init = "k-means++",
        max_iter: Count = 300,
        tol: float = 1e-4,
        max_points_per_centroid: Count | None = None,
        seed: Count = 0,
        threads: Count | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(n_clusters, metric, max_iter, tol, seed, threads, progress)
        self.init = init
        self.max_points_per_centroid = _maybe_count("max_points_per_centroid", max_points_per_centroid)

    def fit(self, vectors: Vectors) -> Self:
        """Find the centroids of the rows.

        `history` then holds the objective at the first centroids and after each iteration; it never grows.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on the CPU.
            Never changed. Every value is rounded once to float32.

        Returns
        -------
        KMeans
            Itself.

        Raises
        ------
        InputError
            If rows or parameters cannot be used: NaN, infinity, fewer rows than cells, ...; `InputTypeError` if
            a type is wrong.
        """
        rows = _rows(vectors)
        self._keep(
            _core.train(
                rows,
                self.n_clusters,
                self.metric,
                self.max_iter,
                self.tol,
                _init(self.init, self.n_clusters, rows.shape[1]),
                self.max_points_per_centroid,
                self.seed,
                self.threads,
                self.progress,
            )
        )
        return self

    def train(self, vectors: Vectors) -> list[float]:
        """`fit`, returning `history`."""
        return self.fit(vectors).history

    def fit_predict(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """`fit`, returning `labels`."""
        return self.fit(vectors).labels


class MiniBatchKMeans(_WholeRows):
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
        tol: float = 0.01,
        max_no_improvement: Count | None = 10,
        reassignment_ratio: float = 0.01,
        seed: Count = 0,
        threads: Count | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(n_clusters, metric, max_iter, tol, seed, threads, progress)
        self.init = init
        given = _maybe_count("batch_size", batch_size)
        self.batch_size = max(1024, 8 * self.n_clusters) if given is None else given
        self.max_no_improvement = _maybe_count("max_no_improvement", max_no_improvement)
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
        rows = _rows(vectors)
        self._learner, trained = _core.train_batches(
            rows,
            self.n_clusters,
            self.metric,
            self.max_iter,
            self.tol,
            _init(self.init, self.n_clusters, rows.shape[1]),
            self.batch_size,
            self.max_no_improvement,
            self.reassignment_ratio,
            self.seed,
            self.threads,
            self.progress,
        )
        self._keep(trained)
        return self

    def train(self, vectors: Vectors) -> list[float]:
        """`fit`, returning `history`."""
        return self.fit(vectors).history

    def fit_predict(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """`fit`, returning `labels`."""
        return self.fit(vectors).labels

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
        rows = _rows(vectors)
        if self._learner is None:
            init = self.init if self._centroids is None else self._centroids
            self._learner = _core.MiniBatch(
                rows,
                self.n_clusters,
                self.metric,
                _init(init, self.n_clusters, rows.shape[1]),
                self.reassignment_ratio,
                self.seed,
                self.threads,
            )
        self._history.append(self._learner.step(rows, self.threads))
        self._centroids, self._cells = self._learner.centroids, None
        self._labels = self._inertia = None
        self._n_iter += 1
        return self


class SubspaceMiniBatchKMeans(_Clusters[None]):
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
        tol: float = 0.01,
        max_no_improvement: Count | None = 10,
        reassignment_ratio: float = 0.01,
        seed: Count = 0,
        threads: Count | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(n_clusters, metric, max_iter, tol, seed, threads, progress)
        self.n_subspaces = _arguments.whole("n_subspaces", n_subspaces, 1)
        given = None if isinstance(init, str) else _given(init, 3)
        if given is not None and len(given) != self.n_subspaces:
            raise InputError(f"init: expected {self.n_subspaces} sets of centroids, got {len(given)}")
        self.parts: Sequence[MiniBatchKMeans] = [
            MiniBatchKMeans(
                n_clusters,
                batch_size,
                metric=metric,
                init=init if given is None else given[part],
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
        rows = _rows(vectors)
        if rows.shape[1] % self.n_subspaces:
            raise InputError(
                f"vectors: expected rows whose length n_subspaces={self.n_subspaces} divides, "
                f"got {rows.shape[1]} values"
            )
        return np.split(rows, self.n_subspaces, axis=1)


def _rows(vectors: object) -> Floats:
    """The rows as contiguous float32: themselves if they are, else each value rounded once."""
    source = _arrays.Rows("vectors", vectors)
    whole = source.whole(np.float32)
    if whole is not None:
        return whole
    rows, done = np.empty(source.shape, np.float32), 0
    for block in source.blocks(np.float32):
        _core.round_rows(block, rows[done : done + len(block)], done)
        done += len(block)
    return rows


def _init(init: object, count: int, dims: int) -> str | Floats:
    """The word, or the centroids as contiguous float32."""
    if isinstance(init, str):
        return init
    given = _given(init, 2)
    if given.shape != (count, dims):
        raise InputError(f"init: expected shape {(count, dims)}, got {_arrays.shape_text(given.shape)}")
    return given


def _given(init: object, ndim: int) -> Floats:
    array = _arrays.numbers("init", init, expected="k-means++, random or an array of real numbers")
    if array.ndim != ndim:
        raise InputError(f"init: expected an array of {ndim} dimensions, got {_arrays.shape_text(array.shape)}")
    return np.require(array, np.float32, ["C", "A"])


def _maybe_count(argument: str, value: object) -> int | None:
    """A whole number from 1, or None for None."""
    return None if value is None else _arguments.whole(argument, value, 1)
