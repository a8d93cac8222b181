"""What a query finds: `Hits` for one vector, `SearchResult` for several, best first."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypedDict, overload

import numpy as np
import numpy.typing as npt


class Hit(TypedDict):
    """One row found: its number, and how it scores."""

    idx: int
    score: float


class SearchResult(NamedTuple):
    """Row numbers (int64) and scores (float32), of one shape, best first along the last axis."""

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class KeyedSearchResult(NamedTuple):
    """A `SearchResult` with the float64 keys that rows are ranked by; merge answers by (key, row)."""

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    keys: npt.NDArray[np.float64]


class Certificate(NamedTuple):
    """What shows that the rows found are the best, and what it took.

    Every row that was not read in full has a bound, proven from its codes, that its key cannot pass
    (``src/code/margin.rs`` derives it). `left` is the best of these bounds; it does not pass `kth`,
    so no row that was left can be among the best.
    """

    rows: int
    """Rows that might be found: all, or those that the filter allows."""
    refined: int
    """Rows read in full."""
    looked: int
    """Rows whose codes were all looked at; a first look takes a part of every row's."""
    bytes: int
    """Bytes of codes and rows that were read, codes that nothing came of included."""
    kth: float
    """Key of the k-th best row; where fewer reach `min_score` or `max_distance`, the key that these ask for."""
    left: float
    """No row that was not read in full has a better key than this; infinite if none was left."""
    exact: bool
    """Whether the rows are known to be the best of all. An approximate search proves it where it can; where it
    cannot, `left` says nothing."""


class Hits(Sequence[Hit]):
    """The rows found for one vector, best first: a sequence of ``{"idx": int, "score": float}``.

    Equal to the plain list of the same dictionaries; slices are `Hits`. The dictionaries are made
    when asked for, the arrays are there at once.

    Attributes
    ----------
    indices : ndarray of int64, shape (n,)
        Row numbers.
    scores : ndarray of float32, shape (n,)
        Cosine or dot product, larger is better, or euclidean distance, smaller is better.
    keys : ndarray of float64, shape (n,)
        What rows are ranked by: the score before rounding, for euclidean the squared distance.
    certificate : Certificate
        What shows that these are the best rows, and what it took to know.

    Examples
    --------
    >>> import nseekfs
    >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    >>> hits = index.query([0.0, 2.0], top_k=2)
    >>> hits[0]
    {'idx': 1, 'score': 1.0}
    >>> hits.indices
    array([1, 2])
    >>> hits == [{"idx": 1, "score": 1.0}, {"idx": 2, "score": float(hits.scores[1])}]
    True
    """

    __slots__ = ("certificate", "indices", "keys", "scores")
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        indices: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        keys: npt.NDArray[np.float64],
        certificate: Certificate,
    ) -> None:
        self.indices = indices
        self.scores = scores
        self.keys = keys
        self.certificate = certificate

    def to_list(self) -> list[Hit]:
        """The plain list of dictionaries."""
        return list(self)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, item: int) -> Hit: ...
    @overload
    def __getitem__(self, item: slice) -> "Hits": ...
    def __getitem__(self, item: int | slice) -> "Hit | Hits":
        if isinstance(item, slice):
            return Hits(self.indices[item], self.scores[item], self.keys[item], self.certificate)
        return {"idx": int(self.indices[item]), "score": float(self.scores[item])}

    def __iter__(self) -> Iterator[Hit]:
        for row, score in zip(self.indices.tolist(), self.scores.tolist(), strict=True):
            yield {"idx": row, "score": score}

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Hits | list):
            return NotImplemented
        return self.to_list() == list(other)

    def __repr__(self) -> str:
        first = ", ".join(f"{row}: {score:.4g}" for row, score in zip(self.indices[:3], self.scores[:3], strict=True))
        return f"Hits({len(self)} rows, {first}{', ...' if len(self) > 3 else ''})"
