"""Results of a search: `Hits` of one query, `SearchResult` of several, best first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, overload

import numpy as np
import numpy.typing as npt


class Hit(TypedDict):
    """One row found: its number and its score."""

    idx: int
    score: float


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The rows found for several queries, best first along the last axis.

    ``indices, scores = result`` unpacks the first two arrays. All three have the same shape, see `Index.search`.
    """

    indices: npt.NDArray[np.int64]
    """Row numbers, int64."""
    scores: npt.NDArray[np.float32]
    """Cosine or dot product, where larger is better, or euclidean distance, where smaller is better; float32."""
    keys: npt.NDArray[np.float64]
    """Ranking keys, float64, see `Hits.keys`. To merge answers of several indexes, order them by (key, row)."""

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return iter((self.indices, self.scores))


class Certificate(NamedTuple):
    """The proof that the rows found are the best, with counts of the work.

    The code of a row gives a bound of its key, which ``src/quantize/bound.rs`` derives. `best_bound_left` is the best
    bound of all rows that were not refined. It is not better than `kth_key`, so none of these rows can be among the
    best.
    """

    rows: int
    """Number of candidates: all rows, or those that the filter allows."""
    bounded: int
    """Number of rows whose full bound, from all dims of their code, was computed. The coarse bound, from the leading
    dims, is not counted."""
    refined: int
    """Number of rows that were read in full and scored."""
    bytes_read: int
    """Bytes of codes and rows that were read."""
    kth_key: float
    """Ranking key of the k-th best row. If fewer rows reach `min_score` or `max_distance`, the key of that limit."""
    best_bound_left: float
    """No row that was not refined has a better key. Infinite if all rows were refined or if `exact` is False."""
    exact: bool
    """Whether the rows are proven to be the best of all candidates. Always True for exact search. Approximate search
    sets it where it has a proof."""


class Hits(Sequence[Hit]):
    """The rows found for one query, best first: a sequence of ``{"idx": int, "score": float}``.

    `Hits` equal the list of the same dictionaries, and slices are `Hits`. Dictionaries are made on access; the arrays
    exist already.

    Attributes
    ----------
    indices : ndarray of int64, shape (n,)
        Row numbers.
    scores : ndarray of float32, shape (n,)
        Cosine or dot product, where larger is better, or euclidean or hamming distance, where smaller is better.
    keys : ndarray of float64, shape (n,)
        Ranking keys: the score before rounding to float32; for euclidean, the squared distance.
    certificate : Certificate
        The proof that these rows are the best, with counts of the work.

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
        """The hits as a list of dictionaries."""
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
