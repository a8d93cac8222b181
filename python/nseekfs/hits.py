"""What a query finds: `Hits` for one vector, `SearchResult` for several, best first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, overload

import numpy as np
import numpy.typing as npt


class Hit(TypedDict):
    """One row found: its number, and how it scores."""

    idx: int
    score: float


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The rows found for several vectors, best first along the last axis; ``indices, scores = result`` unpacks it."""

    indices: npt.NDArray[np.int64]
    """Row numbers."""
    scores: npt.NDArray[np.float32]
    """Cosine or dot product, larger is better, or euclidean distance, smaller is better."""
    keys: npt.NDArray[np.float64]
    """What rows are ranked by, see `Hits.keys`; merge answers of several indexes by (key, row)."""

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return iter((self.indices, self.scores))


class Certificate(NamedTuple):
    """What shows that the rows found are the best, and what that took.

    Every row that was not read in full has an upper bound of its key, proven from its code
    (``src/code/margin.rs`` derives it). `best_bound_left` is the best of these bounds; it does not
    pass `kth_key`, so that none of these rows can be among the best.
    """

    rows: int
    """Candidates: all rows, or those that the filter allows."""
    bounded: int
    """Rows whose full bound, from all dims of their code, was computed; the coarse bound from the leading dims may be
    computed for every row."""
    refined: int
    """Rows read in full and scored."""
    bytes_read: int
    """Bytes of codes and rows that were read, codes that decided nothing included."""
    kth_key: float
    """Key of the k-th best row; where fewer reach `min_score` or `max_distance`, the key of that limit."""
    best_bound_left: float
    """No row that was not refined has a better key than this; infinite if all were refined, or `exact` is False."""
    exact: bool
    """Whether the rows are proven to be the best of all candidates. Always True of an exact search; an approximate
    search proves it where it can, and where it cannot, `best_bound_left` says nothing."""


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
