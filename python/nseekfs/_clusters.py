"""Base of all k-means classes: shared parameters, fitted attributes, prediction, and conversion of rows to float32."""

import copy
import importlib
import inspect
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core, _progress
from nseekfs._errors import Error, InputError
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors

Init: TypeAlias = Literal["k-means++", "random"] | Vectors
Floats: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]
Step = TypeVar("Step")
_Known = TypeVar("_Known")
_Class = TypeVar("_Class", bound=type)


class NotFittedError(Error, ValueError, AttributeError):
    """A method or attribute needs centroids, and there was no fit yet."""


class Training(NamedTuple):
    """Parameters shared by all trainings, in the types of the extension module."""

    n_clusters: int
    metric: str
    max_iter: int
    tol: float
    init: str | Floats
    seed: int
    threads: int | None


class Fitted(NamedTuple, Generic[Step]):
    """The result of a fit; labels and inertia are None after `partial_fit`."""

    metric: str
    centroids: Floats
    labels: Labels | None
    inertia: float | None
    history: list[Step]
    n_iter: int


@dataclass(eq=False, repr=False)
class Clusterer(ABC, Generic[Step]):
    """Base of the k-means classes. Parameters are stored as given and checked by `fit` and `partial_fit`.

    Parameters
    ----------
    n_clusters : int
        Number of clusters, from 1 to the number of rows.
    metric : {"l2", "cosine"}
        Metric of rows and centroids; aliases as in `nseekfs.from_embeddings`. ``"cosine"`` is spherical k-means: rows
        and centroids are scaled to length 1.
    init : {"k-means++", "random"} or array_like, shape of `centroids`
        Initial centroids: k-means++ on a sample of the rows, random rows, or the given array.
    max_iter : int
        Maximum number of iterations of `fit`; for mini-batches, of epochs, each of which draws as many rows as there
        are.
    tol : float
        Training ends when the relative decrease of the objective is at most this; for mini-batches, of the smoothed
        objective.
    seed : int
        Seed of all random choices, from 0 to 2**64 - 1.
    threads : int, optional
        Maximum number of threads, at least 1. The default is the number of CPUs that the process may use.
    progress : callable or True, optional
        Called by `fit` with (done, total), as `nseekfs.from_embeddings` does; True shows a bar of tqdm.
    """

    n_clusters: Count = 8
    _: KW_ONLY
    metric: ClusterMetric = "l2"
    init: Init = "k-means++"
    max_iter: Count = 300
    tol: float = 1e-4
    seed: Count = 0
    threads: Count | None = None
    progress: Progress = None
    _fitted: Fitted[Step] | None = field(default=None, init=False)
    _assigner: _core.Centroids | None = field(default=None, init=False)

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"centroids of shape {self.centroids.shape}"
        return f"{type(self).__name__}(n_clusters={self.n_clusters}, metric={self.metric!r}: {state})"

    def __getstate__(self) -> dict[str, Any]:
        """The state without the compiled centroids, which are built again, and without the callable."""
        return {**self.__dict__, "_assigner": None, "progress": None}

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The parameters by name, as given. `deep` has no effect: no parameter is an estimator."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name for the next fit. Raises `InputError` for an unknown name."""
        known = inspect.signature(type(self)).parameters
        for name in params:
            if name not in known:
                raise InputError(f"set_params: expected some of {', '.join(known)}, got {name!r}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Vectors, y: object = None) -> Self:  # noqa: ARG002
        """Compute the centroids of the rows.

        Parameters
        ----------
        X : array_like of real numbers, shape (rows, dims)
            Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on the CPU. The
            array is never changed. Every value is rounded once to float32.
        y : object
            Ignored, here and in other methods; scikit-learn passes it.

        Returns
        -------
        Self

        Raises
        ------
        InputError
            If rows or parameters are not allowed, such as NaN, infinity, or fewer rows than clusters; `InputTypeError`
            if a type is wrong. The result of an earlier fit is then unchanged.
        """
        with _progress.Told(self.progress, "nseekfs k-means", self._works()) as heard:
            self._fitted, self._assigner = self._train(rows_of(X), heard), None
        return self

    def train(self, X: Vectors) -> list[Step]:
        """Call `fit` and return `history`."""
        return self.fit(X).history

    def fit_predict(self, X: Vectors, y: object = None) -> Labels:
        """Call `fit` and return `labels`, int64, shape (rows,) or (rows, n_subspaces)."""
        return self.fit(X, y).labels

    def fit_transform(self, X: Vectors, y: object = None) -> Floats:
        """Call `fit` and return `transform` of the same rows."""
        rows = rows_of(X)
        return self.fit(rows, y).transform(rows)

    def predict(self, X: Vectors) -> Labels:
        """Find the nearest centroid of every row.

        Parameters
        ----------
        X : array_like of real numbers, shape (rows, dims)
            As in `fit`.

        Returns
        -------
        ndarray of int64, shape (rows,) or (rows, n_subspaces)
            Numbers of centroids; the lower number if two are equally near.

        Raises
        ------
        NotFittedError
            If there was no fit yet.
        InputError
            If the rows are not allowed; `InputTypeError` if their type is wrong.
        """
        return self._ready().assign(rows_of(X), self._threads())

    def predict_scores(self, X: Vectors) -> Floats:
        """Compute the score of every centroid for every row: the euclidean distance or the cosine.

        Parameters and errors are those of `predict`.

        Returns
        -------
        ndarray of float32, shape (rows, n_clusters) or (rows, n_subspaces, n_clusters)
            Float64 sums, rounded to float32.
        """
        return self._ready().scores(rows_of(X), self._threads())

    def transform(self, X: Vectors) -> Floats:
        """Compute the distance of every row to every centroid: euclidean, or for ``"cosine"`` 1 - cosine.

        Parameters and errors are those of `predict`.

        Returns
        -------
        ndarray of float32, shape (rows, n_clusters) or (rows, n_subspaces * n_clusters)
            Float64 sums, rounded to float32; one subspace after the other.
        """
        return self._ready().distances(rows_of(X), self._threads())

    def score(self, X: Vectors, y: object = None) -> float:  # noqa: ARG002
        """The negative `inertia` of these rows, a float. Parameters and errors are those of `predict`."""
        return -self._ready().cost(rows_of(X), self._threads())

    @property
    def centroids(self) -> Floats:
        """The centroids, float32, shape (n_clusters, dims); of length 1 for ``"cosine"``."""
        return self._known().centroids

    @property
    def labels(self) -> Labels:
        """The labels of the rows of `fit`, int64, as `predict` returns them."""
        return self._value(self._known().labels)

    @property
    def inertia(self) -> float:
        """The sum of squared distances of the rows of `fit` to their centroids; for ``"cosine"``, the sum of 1 -
        cosine."""
        return self._value(self._known().inertia)

    @property
    def objective(self) -> float:
        """The same as `inertia`."""
        return self.inertia

    @property
    def history(self) -> list[Step]:
        """The objective at the initial centroids and after each iteration, where it never increases. For mini-batches,
        the mean cost of each batch at the centroids before its update; for subspaces, one such list for each."""
        return copy.deepcopy(self._known().history)

    @property
    def n_iter(self) -> int:
        """The number of updates of the centroids."""
        return self._known().n_iter

    # The names of scikit-learn.
    cluster_centers_ = centroids
    labels_ = labels
    inertia_ = inertia
    n_iter_ = n_iter

    @property
    def n_features_in_(self) -> int:
        """The number of values of a row."""
        return int(self.centroids.size // self.centroids.shape[-2])

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def __sklearn_tags__(self) -> Any:
        """The estimator tags of scikit-learn, which is imported here because only scikit-learn calls this method."""
        sklearn = importlib.import_module("sklearn.utils")
        return sklearn.Tags(
            estimator_type="clusterer",
            target_tags=sklearn.TargetTags(required=False),
            transformer_tags=sklearn.TransformerTags(preserves_dtype=["float32"]),
        )

    @abstractmethod
    def _train(self, rows: Floats, heard: _core.Progress | None) -> Fitted[Step]:
        """Train on the rows; the result becomes the state of the estimator."""

    def _works(self) -> int:
        """The number of trainings of a fit, of one cost."""
        return 1

    def _known(self) -> Fitted[Step]:
        return self._value(self._fitted)

    def _value(self, value: _Known | None) -> _Known:
        if value is None:
            raise NotFittedError(f"{type(self).__name__}: expected fit() to have been called first")
        return value

    def _ready(self) -> _core.Centroids:
        if self._assigner is None:
            self._assigner = _core.Centroids(self.centroids, self._known().metric, self._threads())
        return self._assigner

    def _threads(self) -> int | None:
        return _arguments.maybe_whole("threads", self.threads)

    def _training(self, dims: int, init: Init | None = None) -> Training:
        """The checked parameters; `init` replaces the parameter of that name if given."""
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
    """Insert the parameters of the base class into the docstring of a class, so that `help` shows all of them."""
    heading = "Parameters\n----------\n"
    shared = (inspect.getdoc(cls.__base__) or "").partition(heading)[2].partition("\n\n")[0]
    cls.__doc__ = cls.__doc__ and inspect.cleandoc(cls.__doc__).replace(heading, f"{heading}{shared}\n", 1)
    return cls


def rows_of(vectors: object) -> Floats:
    """The rows as contiguous float32: the array itself if it is that, else each value rounded once."""
    source = _arrays.Rows("X", vectors, np.float32)
    whole = source.whole()
    if whole is not None:
        return whole
    rows, done = np.empty(source.shape, np.float32), 0
    for block in source.blocks():
        _core.round_rows(block, rows[done : done + len(block)], done)
        done += len(block)
    return rows


def given_centroids(init: object, shape: tuple[int, ...]) -> Floats:
    """The array `init` as contiguous float32 of this shape."""
    array = _arrays.numbers("init", init, expected="k-means++, random or an array of real numbers")
    if array.shape != shape:
        raise InputError(f"init: expected shape {shape}, got {_arrays.shape_text(array.shape)}")
    with np.errstate(over="ignore"):  # infinity is refused when the centroids are used
        return np.require(array, np.float32, ["C", "A"])
