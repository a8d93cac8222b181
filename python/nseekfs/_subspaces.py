"""k-means on mini-batches, for each of several subspaces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _core
from nseekfs._clusters import Fitted, Floats, Labels, documented, given_centroids, rows_of
from nseekfs._errors import InputError
from nseekfs._minibatch import BatchClusterer, MiniBatchKMeans
from nseekfs._typing import Count, Vectors

_Scalar = TypeVar("_Scalar", bound=np.generic)


@documented
@dataclass(eq=False, repr=False)
class SubspaceMiniBatchKMeans(BatchClusterer[list[float]]):
    """A `MiniBatchKMeans` for each of several subspaces, such as the codebooks of product quantization.

    Parameters
    ----------
    n_subspaces : int
        Number of subspaces, at least 1: consecutive parts of equal width. It divides the number of dims of the rows.
    batch_size : int, optional
        As in `MiniBatchKMeans`, for each subspace.

    Notes
    -----
    Jegou, Douze and Schmid, *Product quantization for nearest neighbor search*, IEEE Transactions on Pattern
    Analysis and Machine Intelligence 33 (2011). `centroids` has the shape (n_subspaces, n_clusters,
    dims / n_subspaces), `labels` the shape (rows, n_subspaces); `inertia` is the sum over all subspaces.

    Examples
    --------
    >>> import numpy as np
    >>> from nseekfs.cluster import SubspaceMiniBatchKMeans
    >>> vectors = np.random.default_rng(0).standard_normal((1000, 8), np.float32)
    >>> found = SubspaceMiniBatchKMeans(16, 4).fit(vectors)
    >>> found.centroids.shape, found.predict(vectors).shape
    ((4, 16, 2), (1000, 4))
    """

    n_subspaces: Count = 8
    batch_size: Count | None = None
    _parts: list[MiniBatchKMeans] | None = field(default=None, init=False)

    @property
    def parts(self) -> list[MiniBatchKMeans]:
        """The fitted `MiniBatchKMeans` of each subspace."""
        return self._value(self._parts)

    def predict(self, X: Vectors) -> Labels:
        return self._stack(MiniBatchKMeans.predict, X)

    def predict_scores(self, X: Vectors) -> Floats:
        return self._stack(MiniBatchKMeans.predict_scores, X)

    def transform(self, X: Vectors) -> Floats:
        stacked = self._stack(MiniBatchKMeans.transform, X)
        return stacked.reshape(len(stacked), -1)

    def score(self, X: Vectors, y: object = None) -> float:
        return sum(part.score(columns, y) for part, columns in self._pairs(X))

    def _train(self, rows: Floats, heard: _core.Progress | None) -> Fitted[list[float]]:
        split = split_columns(rows, self.n_subspaces)
        parts = self._new_parts(split)
        for part, columns in zip(parts, split, strict=True):
            part._fitted = part._train(rows_of(columns), heard)
        self._parts = parts
        return self._gather(np.stack([part.labels for part in parts], axis=1), sum(part.inertia for part in parts))

    def _works(self) -> int:
        return _arguments.whole("n_subspaces", self.n_subspaces, 1)

    def _learn(self, rows: Floats) -> Fitted[list[float]]:
        if self._parts is None:
            self._parts = self._new_parts(split_columns(rows, self.n_subspaces))
        for part, columns in self._pairs(rows):
            part.partial_fit(columns)
        return self._gather(None, None)

    def _gather(self, labels: Labels | None, inertia: float | None) -> Fitted[list[float]]:
        found = [part._known() for part in self.parts]
        centroids = np.stack([one.centroids for one in found])
        history, n_iter = [one.history for one in found], max(one.n_iter for one in found)
        return Fitted(found[0].metric, centroids, labels, inertia, history, n_iter)

    def _new_parts(self, split: list[Floats]) -> list[MiniBatchKMeans]:
        seed = _arguments.whole("seed", self.seed, 0, 2**64 - 1)
        shared: dict[str, Any] = {name: getattr(self, name) for name in MiniBatchKMeans().get_params()}
        init: Any = [self.init] * len(split)
        if not isinstance(self.init, str):
            count = _arguments.whole("n_clusters", self.n_clusters, 1)
            init = given_centroids(self.init, (len(split), count, split[0].shape[1]))
        own = ({"init": first, "seed": (seed + part) % 2**64, "progress": None} for part, first in enumerate(init))
        return [MiniBatchKMeans(**{**shared, **one}) for one in own]

    def _pairs(self, X: Vectors) -> Iterator[tuple[MiniBatchKMeans, Floats]]:
        """Each subspace with its columns of the rows."""
        parts = self.parts
        return zip(parts, split_columns(rows_of(X), len(parts)), strict=True)

    def _stack(
        self, ask: Callable[[MiniBatchKMeans, Floats], npt.NDArray[_Scalar]], X: Vectors
    ) -> npt.NDArray[_Scalar]:
        """The results of all subspaces, stacked along axis 1."""
        return np.stack([ask(part, columns) for part, columns in self._pairs(X)], axis=1)


def split_columns(rows: Floats, n_subspaces: Count) -> list[Floats]:
    """Views of `n_subspaces` groups of columns of equal width."""
    count = _arguments.whole("n_subspaces", n_subspaces, 1)
    if rows.shape[1] % count:
        raise InputError(f"X: expected rows whose length n_subspaces={count} divides, got {rows.shape[1]} values")
    return np.split(rows, count, axis=1)
