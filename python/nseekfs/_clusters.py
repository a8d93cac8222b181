"""What all k-means classes have in common: parameters, what came of a fit, prediction, and rows in float32."""

from abc import ABC, abstractmethod
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._errors import Error, InputError, InputTypeError
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors

Init: TypeAlias = Literal["k-means++", "random"] | Vectors
Floats: TypeAlias = npt.NDArray[np.float32]
Trained: TypeAlias = tuple[Floats, npt.NDArray[np.int64], float, npt.NDArray[np.float64], int]
_Cells = TypeVar("_Cells")
_Known = TypeVar("_Known")


class NotFittedError(Error, ValueError, AttributeError):
    """Centroids were asked for before there were any."""


class Clusters(Generic[_Cells]):
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


class WholeRows(Clusters[_core.Cells], ABC):
    """Prediction by one set of centroids."""

    @abstractmethod
    def fit(self, vectors: Vectors) -> Self:
        """Find the centroids of the rows."""

    def train(self, vectors: Vectors) -> list[float]:
        """`fit`, returning `history`."""
        return self.fit(vectors).history

    def fit_predict(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """`fit`, returning `labels`."""
        return self.fit(vectors).labels

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
        return self._ready().assign(rows_of(vectors), self.threads)

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
        return self._ready().scores(rows_of(vectors), self.threads)

    def _ready(self) -> _core.Cells:
        if self._cells is None:
            self._cells = _core.Cells(self.centroids, self.metric, self.threads)
        return self._cells

    def _keep(self, trained: Trained) -> None:
        centroids, labels, inertia, history, n_iter = trained
        self._centroids, self._labels, self._inertia = centroids, labels, inertia
        self._history, self._n_iter, self._cells = history.tolist(), n_iter, None


def rows_of(vectors: object) -> Floats:
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


def first_centroids(init: object, count: int, dims: int) -> str | Floats:
    """The word, or the centroids as contiguous float32."""
    if isinstance(init, str):
        return init
    centroids = given(init, 2)
    if centroids.shape != (count, dims):
        raise InputError(f"init: expected shape {(count, dims)}, got {_arrays.shape_text(centroids.shape)}")
    return centroids


def given(init: object, ndim: int) -> Floats:
    """Given centroids as contiguous float32, in an array of `ndim` dimensions."""
    array = _arrays.numbers("init", init, expected="k-means++, random or an array of real numbers")
    if array.ndim != ndim:
        raise InputError(f"init: expected an array of {ndim} dimensions, got {_arrays.shape_text(array.shape)}")
    with np.errstate(over="ignore"):  # infinity is refused when the centroids are used
        return np.require(array, np.float32, ["C", "A"])


def maybe_count(argument: str, value: object) -> int | None:
    """A whole number from 1, or None for None."""
    return None if value is None else _arguments.whole(argument, value, 1)
