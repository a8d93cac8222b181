"""The index as users hold it: ask it, read its rows, save it, close it."""

from types import TracebackType
from typing import Any, Self, get_args, overload

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._approximate import Approximate, how_much, query_type
from nseekfs._errors import InputError
from nseekfs._typing import AnyPath, Count, EuclideanWord, Filter, Method, Metric, Vectors
from nseekfs.hits import Certificate, Hits, SearchResult
from nseekfs.params import Effort


class Index(Approximate):
    """Vectors that can be searched; made by `from_embeddings` or `load_index`.

    Safe to use from several threads and in forked children. A context manager that closes the
    index at its end. ``len(index)`` is the number of rows, ``index[7]``, ``index[-1]`` and
    ``index[2:5]`` are rows as stored: float32, or float64 at level ``"f64"``. A pickle of a saved
    index holds its path, so that workers map the one file.

    Examples
    --------
    >>> import nseekfs
    >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0]], metric="euclidean")
    >>> len(index), index.dims, index.metric
    (2, 2, 'euclidean')
    >>> index[-1]
    array([0., 1.], dtype=float32)
    """

    __slots__ = ("_ann", "_core", "_method", "_mode", "_saved")

    def __init__(self, core: _core.Index, method: str = "auto", mode: str = "mmap", ann: bool = True) -> None:
        self._core: _core.Index | None = core
        self._method = method
        self._mode = mode
        self._ann = ann
        self._saved: str | None = None

    def query(
        self,
        query: Vectors,
        top_k: Count = 10,
        *,
        method: Method = "auto",
        similarity: Metric | None = None,
        filter: Filter | None = None,  # noqa: A002
        min_score: float | None = None,
        max_distance: float | None = None,
        recall: float | None = None,
        effort: Effort | None = None,
        threads: Count | None = None,
    ) -> Hits:
        """Find the rows nearest to one vector.

        Parameters
        ----------
        query : array_like of real numbers, shape (dims,)
            Rounded once to float32, or to float64 at level ``"f64"``.
        top_k : int
            How many rows to return at most, from 1; all rows if there are fewer.
        method : {"auto", "simd", "scalar"}
            How the rows are searched; exact answers are the same to the last bit, and ``"simd"`` and ``"scalar"`` are
            always exact. ``"auto"`` is what the index was built with, and reads few rows where there are codes;
            ``"simd"`` reads all in full with the vector kernels, ``"scalar"`` with plain loops.
        similarity : str, optional
            ``"cosine"``, ``"dot"`` or ``"euclidean"`` or an alias; the index's metric if not given.
        filter : array_like, optional
            Which rows may be found: a bool for every row, shape (rows,), or row numbers, shape (n,).
        min_score : float, optional
            Only rows whose float64 score is at least this; for cosine and dot.
        max_distance : float, optional
            Only rows whose float64 distance is at most this; for euclidean.
        recall : float, optional
            Of an index for approximate search: the share of the exact neighbours that is to be found, on average;
            what the index was tuned for if not given. 1 asks for the exact answer.
        effort : Effort, optional
            Of an index for approximate search, instead of `recall`: how many cells or buckets to visit, and how many
            rows to read in full.
        threads : int, optional
            How many threads may work, from 1; all that the process may use if not given.

        Returns
        -------
        Hits
            Best first, equal scores by row; fewer than `top_k` only if no more rows qualify.

        Raises
        ------
        InputError
            If an argument cannot be used, or the index is closed; `InputTypeError` for a wrong type.

        Examples
        --------
        >>> import nseekfs
        >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        >>> [hit["idx"] for hit in index.query([0.0, 1.0], top_k=2)]
        [1, 2]
        >>> index.query([0.0, 1.0], filter=[True, False, False]).to_list()
        [{'idx': 0, 'score': 0.0}]
        >>> index.query([0.0, 1.0], similarity="euclidean", max_distance=0.5).to_list()
        [{'idx': 1, 'score': 0.0}]
        """
        core = self._open()
        word = None if similarity is None else _arguments.word("similarity", similarity)
        indices, scores, keys, certificates = core.search(
            _arrays.vector("query", query, query_type(core)),
            _arguments.whole("top_k", top_k),
            self._method_of(method),
            word,
            _arrays.row_filter(filter),
            _bound(word or core.metric, min_score, max_distance),
            *how_much(recall, effort),
            _arguments.maybe_whole("threads", threads),
        )
        return Hits(indices, scores, keys, Certificate(*certificates[0]))

    def search(
        self,
        queries: Vectors,
        k: Count = 10,
        *,
        method: Method = "auto",
        similarity: Metric | None = None,
        filter: Filter | None = None,  # noqa: A002
        recall: float | None = None,
        effort: Effort | None = None,
        threads: Count | None = None,
    ) -> SearchResult:
        """Find the rows nearest to each of several vectors, as arrays.

        Parameters
        ----------
        queries : array_like of real numbers, shape (q, dims) or (dims,)
            Rounded once to float32, or to float64 at level ``"f64"``.
        k : int
            How many rows to return for each query, from 1; all allowed rows if there are fewer.
        method, similarity, filter, recall, effort, threads
            As in `query`.

        Returns
        -------
        SearchResult
            ``indices`` (int64), ``scores`` (float32) and ``keys`` (float64), each of shape (q, n) or, for one vector,
            (n,), n being the smaller of `k` and the number of allowed rows; best first.

        Raises
        ------
        InputError
            If an argument cannot be used, or the index is closed; `InputTypeError` for a wrong type.

        Examples
        --------
        >>> import nseekfs
        >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        >>> indices, scores = index.search([[0.0, 1.0], [1.0, 0.0]], k=2)
        >>> indices
        array([[1, 2],
               [0, 2]])
        >>> scores
        array([[1. , 0.8],
               [1. , 0.6]], dtype=float32)
        """
        core = self._open()
        block, one = _arrays.matrix("queries", queries, query_type(core))
        indices, scores, keys, _ = core.search(
            block,
            _arguments.whole("k", k),
            self._method_of(method),
            None if similarity is None else _arguments.word("similarity", similarity),
            _arrays.row_filter(filter),
            None,
            *how_much(recall, effort),
            _arguments.maybe_whole("threads", threads),
        )
        if not one:
            shape = (len(block), -1)
            indices, scores, keys = indices.reshape(shape), scores.reshape(shape), keys.reshape(shape)
        return SearchResult(indices, scores, keys)

    def save(self, path: AnyPath) -> None:
        """Write the index to one file, whole or not at all, replacing what is there.

        Raises
        ------
        OSError
            If the file cannot be written; nothing of it is left behind.
        """
        core, name = self._open(), _arguments.path("path", path)
        core.save(name)
        self._saved = name

    def verify(self) -> None:
        """Check every byte of the file against its checksum.

        Raises
        ------
        FormatError
            If the file has been damaged since it was written.
        """
        self._open().verify()

    def close(self) -> None:
        """Let go of the memory or the file; searches under way in other threads end first."""
        self._core = None

    @property
    def dims(self) -> int:
        """Numbers in a row."""
        return self._open().dims

    @property
    def rows(self) -> int:
        """Rows, as ``len(index)``."""
        return self._open().rows

    @property
    def level(self) -> str:
        """How precisely a row is stored: ``"f64"``, ``"f32"``, ``"f16"`` or ``"f8"``."""
        return self._open().level

    @property
    def metric(self) -> str:
        """What queries compare by unless they say otherwise."""
        return self._open().metric

    @property
    def normalized(self) -> bool:
        """Whether every row came with length 1, within 0.002."""
        return self._open().normalized

    @property
    def codes(self) -> bool:
        """Whether compact codes stand beside the rows, so that ``"auto"`` reads few of them."""
        return self._open().codes

    @property
    def seed(self) -> int:
        """What every random choice of the build started from."""
        return self._open().seed

    @property
    def nbytes(self) -> int:
        """Bytes that the index takes, in memory or in its file."""
        return self._open().nbytes

    @property
    def path(self) -> str | None:
        """The file that holds the index; None while it is in memory only."""
        return self._open().path or self._saved

    def __len__(self) -> int:
        return self._open().rows

    @overload
    def __getitem__(self, item: Count) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, item: slice) -> npt.NDArray[Any]: ...
    def __getitem__(self, item: Count | slice) -> npt.NDArray[Any]:
        core = self._open()
        if isinstance(item, slice):
            wanted = range(*item.indices(core.rows))
            if wanted.step == 1:
                return core.values(wanted.start, max(wanted.start, wanted.stop))
            out = np.empty((len(wanted), core.dims), query_type(core))
            for i, row in enumerate(wanted):
                out[i] = core.values(row, row + 1)[0]
            return out
        row = _arguments.whole("row", item)
        if not -core.rows <= row < core.rows:
            raise IndexError(f"row: expected one of {core.rows} rows, got {row}")
        row %= core.rows
        found: npt.NDArray[Any] = core.values(row, row + 1)[0]
        return found

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        path = self.path
        if path is None:
            raise InputError(
                "index: expected an index that a file holds, got one in memory; "
                "save it with index.save(path) before it is pickled"
            )
        return _reopen, (path, self._method, self._mode, self._ann)

    def __repr__(self) -> str:
        core = self._core
        if core is None:
            return "<nseekfs.Index, closed>"
        file = f", {self.path}" if self.path else ""
        kind = self.ann.kind
        how = f"{kind} by codes" if core.codes else kind
        return (
            f"<nseekfs.Index of {core.rows} rows x {core.dims} dims, {core.level}, {core.metric}, "
            f"{how}, {_core.simd_info()['used']} kernel, {_size(core.nbytes)}{file}>"
        )

    def _open(self) -> _core.Index:
        core = self._core
        if core is None:
            raise InputError("index: expected an open index, got one that was closed")
        return core

    def _method_of(self, method: object) -> str:
        word = _arguments.word("method", method)
        return self._method if word == "auto" else word


def _reopen(path: str, method: str, mode: str, ann: bool) -> Index:
    return Index(_core.load(path, mode, "auto", ann), method, mode, ann)


def _bound(metric: str, min_score: object, max_distance: object) -> float | None:
    """The one limit that `metric` has, from the argument that is named after it."""
    if min_score is None and max_distance is None:
        return None
    euclidean = metric in get_args(EuclideanWord)
    right, wrong = ("max_distance", "min_score") if euclidean else ("min_score", "max_distance")
    given = {"min_score": min_score, "max_distance": max_distance}
    if given[wrong] is not None:
        raise InputError(f"{wrong}: expected {right} because the query compares by {metric}, got {wrong}")
    return None if given[right] is None else _arguments.real(right, given[right])


def _size(nbytes: int) -> str:
    """Bytes as people say them."""
    size, units = float(nbytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
