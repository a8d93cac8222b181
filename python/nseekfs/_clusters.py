"""The base of all k-means classes: shared parameters, what a fit leaves, prediction, and rows in float32."""

import copy
import importlib
import inspect
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._errors import Error, InputError
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors

Init: TypeAlias = Literal["k-means++", "random"] | Vectors
Floats: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]
Step = TypeVar("Step")
_Known = TypeVar("_Known")
_Class = TypeVar("_Class", bound=type)


class NotFittedError(Error, ValueError, AttributeError):
    """Centroids were asked for before there were any."""


class Training(NamedTuple):
    """Parameters that all trainings share, in the types of the extension module."""

    n_clusters: int
    metric: str
    max_iter: int
    tol: float
    init: str | Floats
    seed: int
    threads: int | None


class Fitted(NamedTuple, Generic[Step]):
    """What a fit leaves; there are no labels once `partial_fit` has moved the centroids."""

    metric: str
    centroids: Floats
    labels: Labels | None
    inertia: float | None
    history: list[Step]
    n_iter: int


@dataclass(eq=False, repr=False)
class Clusterer(ABC, Generic[Step]):
    """The base of k-means classes: parameters are kept as given and checked when rows are.

    Parameters
    ----------
    n_clusters : int
        How many clusters, from 1 to the number of rows.
    metric : {"l2", "cosine"}
        What rows are compared by; aliases as in `nseekfs.from_embeddings`. For ``"cosine"`` rows count with
        length 1, and so do centroids (spherical k-means).
    init : {"k-means++", "random"} or array_like, shape of `centroids`
        The first centroids: rows far from each other, chosen from a sample; any rows; or these.
    max_iter : int
        How many times `fit` moves the centroids at most, or draws as many rows as there are in batches.
    tol : float
        Training ends once the objective falls by no more than this part of it; on batches, the smoothed one.
    seed : int
        What every random choice starts from, from 0.
    threads : int, optional
        How many threads may work, from 1; all that the process may use if not given.
    progress : callable, optional
        Called by `fit` with (done, at most) after each iteration, batch or part of the dimensions.
    """

    n_clusters: Count = 8
    _: KW_ONLY
    metric: ClusterMetric = "l2"
    init: Init = "k-means++"
    max_iter: Count = 300
    tol: float = 1e-4
    seed: Count = 0
    threads: Count | None = None
    progress: Progress | None = None
    _fitted: Fitted[Step] | None = field(default=None, init=False)
    _cells: _core.Cells | None = field(default=None, init=False)

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"centroids of shape {self.centroids.shape}"
        return f"{type(self).__name__}(n_clusters={self.n_clusters}, metric={self.metric!r}: {state})"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the compiled part, which is made again, and the callable."""
        return {**self.__dict__, "_cells": None, "progress": None}

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The parameters by name, as given; none has parameters of its own, so `deep` changes nothing."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Replace parameters by name, from the next fit on; `InputError` if there is none of a name."""
        known = inspect.signature(type(self)).parameters
        for name in params:
            if name not in known:
                raise InputError(f"set_params: expected some of {', '.join(known)}, got {name!r}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Vectors, y: object = None) -> Self:  # noqa: ARG002
        """Find the centroids of the rows; this and other methods ignore `y`, which scikit-learn passes.

        Parameters
        ----------
        X : array_like of real numbers, shape (rows, dims)
            Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on the CPU.
            Never changed. Every value is rounded once to float32.

        Returns
        -------
        Self

        Raises
        ------
        InputError
            If rows or parameters cannot be used: NaN, infinity, fewer rows than clusters, ...; `InputTypeError`
            if a type is wrong. What an earlier fit left is then as before.
        """
        self._fitted, self._cells = self._train(rows_of(X)), None
        return self

    def train(self, X: Vectors) -> list[Step]:
        """`fit`, returning `history`."""
        return self.fit(X).history

    def fit_predict(self, X: Vectors, y: object = None) -> Labels:
        """`fit`, returning `labels`."""
        return self.fit(X, y).labels

    def fit_transform(self, X: Vectors, y: object = None) -> Floats:
        """`fit`, returning what `transform` makes of the same rows."""
        rows = rows_of(X)
        return self.fit(rows, y).transform(rows)

    def predict(self, X: Vectors) -> Labels:
        """The cluster of the nearest centroid to every row, of equally near ones the lower.

        Parameters
        ----------
        X : array_like of real numbers, shape (rows, dims)
            Anything that `fit` takes.

        Returns
        -------
        ndarray of int64, shape (rows,) or (rows, n_subspaces)

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the rows cannot be used, `InputTypeError` if their type is wrong.
        """
        return self._ready().assign(rows_of(X), self._threads())

    def predict_scores(self, X: Vectors) -> Floats:
        """The score of every centroid for every row: the distance, smaller being nearer, or the cosine.

        Takes and raises what `predict` does.

        Returns
        -------
        ndarray of float32, shape (rows, n_clusters) or (rows, n_subspaces, n_clusters)
            Float64 sums, rounded.
        """
        return self._ready().scores(rows_of(X), self._threads())

    def transform(self, X: Vectors) -> Floats:
        """The distance of every row to every centroid: euclidean, or for ``"cosine"`` 1 - cosine.

        Takes and raises what `predict` does.

        Returns
        -------
        ndarray of float32, shape (rows, n_clusters) or (rows, n_subspaces * n_clusters)
            Float64 sums, rounded; one part of the dimensions after the other.
        """
        return self._ready().distances(rows_of(X), self._threads())

    def score(self, X: Vectors, y: object = None) -> float:  # noqa: ARG002
        """The negative of what `inertia` would be for these rows. Takes and raises what `predict` does."""
        return -self._ready().cost(rows_of(X), self._threads())

    @property
    def centroids(self) -> Floats:
        """The centroids, float32, shape (n_clusters, dims); for ``"cosine"`` of length 1."""
        return self._known().centroids

    @property
    def labels(self) -> Labels:
        """What `predict` says of each row that `fit` was given, int64."""
        return self._value(self._known().labels)

    @property
    def inertia(self) -> float:
        """The sum of squared distances of these rows to their centroids; for ``"cosine"`` of 1 - cosine."""
        return self._value(self._known().inertia)

    @property
    def objective(self) -> float:
        """The same as `inertia`."""
        return self.inertia

    @property
    def history(self) -> list[Step]:
        """How the objective fell: at the first centroids and after each iteration, where it never grows; on batches,
        the mean cost of each batch at the centroids before it, a list for each part of the dimensions."""
        return copy.deepcopy(self._known().history)

    @property
    def n_iter(self) -> int:
        """How many times the centroids were moved."""
        return self._known().n_iter

    # The names of scikit-learn.
    cluster_centers_ = centroids
    labels_ = labels
    inertia_ = inertia
    n_iter_ = n_iter

    @property
    def n_features_in_(self) -> int:
        """How many numbers a row has."""
        return int(self.centroids.size // self.centroids.shape[-2])

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn, the only one to call this, asks about a step of a pipeline."""
        sklearn = importlib.import_module("sklearn.utils")
        return sklearn.Tags(
            estimator_type="clusterer",
            target_tags=sklearn.TargetTags(required=False),
            transformer_tags=sklearn.TransformerTags(preserves_dtype=["float32"]),
        )

    @abstractmethod
    def _train(self, rows: Floats) -> Fitted[Step]:
        """What `fit` is to leave."""

    def _known(self) -> Fitted[Step]:
        return self._value(self._fitted)

    def _value(self, value: _Known | None) -> _Known:
        if value is None:
            raise NotFittedError(f"{type(self).__name__}: expected fit() to have been called first")
        return value

    def _ready(self) -> _core.Cells:
        if self._cells is None:
            self._cells = _core.Cells(self.centroids, self._known().metric, self._threads())
        return self._cells

    def _threads(self) -> int | None:
        return _arguments.maybe_whole("threads", self.threads)

    def _progress(self) -> Progress | None:
        return _arguments.maybe_callable("progress", self.progress)

    def _training(self, dims: int, init: Init | None = None) -> Training:
        """The parameters, checked; `init` instead of their own if given."""
        count = _arguments.whole("n_clusters", self.n_clusters, 1)
        first = self.init if init is None else init
        if not isinstance(first, str):
            first = given_centroids(first, (count, dims))
        return Training(
            count,
            _arguments.word("metric", self.metric),
            _arguments.whole("max_iter", self.max_iter, 1),
            _arguments.real("tol", self.tol),
            first,
            _arguments.whole("seed", self.seed, 0, 2**64 - 1),
            self._threads(),
        )


def documented(cls: _Class) -> _Class:
    """Put the parameters of the parent first in the section of a class, so that `help` shows all of them."""
    heading = "Parameters\n----------\n"
    shared = (inspect.getdoc(cls.__base__) or "").partition(heading)[2].partition("\n\n")[0]
    cls.__doc__ = cls.__doc__ and inspect.cleandoc(cls.__doc__).replace(heading, f"{heading}{shared}\n", 1)
    return cls


def rows_of(vectors: object) -> Floats:
    """The rows as contiguous float32: themselves if they are, else each value rounded once."""
    source = _arrays.Rows("X", vectors)
    whole = source.whole(np.float32)
    if whole is not None:
        return whole
    rows, done = np.empty(source.shape, np.float32), 0
    for block in source.blocks(np.float32):
        _core.round_rows(block, rows[done : done + len(block)], done)
        done += len(block)
    return rows


def given_centroids(init: object, shape: tuple[int, ...]) -> Floats:
    """Given centroids as contiguous float32 of this shape."""
    array = _arrays.numbers("init", init, expected="k-means++, random or an array of real numbers")
    if array.shape != shape:
        raise InputError(f"init: expected shape {shape}, got {_arrays.shape_text(array.shape)}")
    with np.errstate(over="ignore"):  # infinity is refused when the centroids are used
        return np.require(array, np.float32, ["C", "A"])
