"""`Index`: search, access to rows, saving and closing."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core, _progress
from nseekfs._approximate import Approximate, how_much, query_type
from nseekfs._errors import InputError, InputTypeError
from nseekfs._living import Living, as_array
from nseekfs._typing import AnyPath, Count, Filter, Ids, Method, Metric, Progress, Vectors
from nseekfs.hits import Certificate, Hits, SearchResult
from nseekfs.params import Effort


class Index(Living, Approximate):
    """A searchable table of vectors; `from_embeddings` and `load_index` return one.

    An index may be used from several threads and in forked children. It is a context manager that closes itself at its
    end. ``len(index)`` is the number of rows. Every row has an id, an int or a str; by default 0, 1, 2, and so on.
    ``index[7]``, ``index["a"]`` and ``index[hits.indices]`` are the rows of these ids as stored: float32, float64 at
    level ``"f64"``, or packed uint8 at level ``"b1"``. ``index[2:5]``, ``index[-10:]`` and ``index[mask]`` select rows
    by the order of their insertion. A pickle of a saved index holds its path, so worker processes map the same file; a
    pickle of an index in memory holds all of it.

    An index in memory can be changed by `add`, `upsert` and `delete`; so can one that `load_index` opens with
    ``writable=True``, whose file then holds every change before the call returns.

    Examples
    --------
    >>> import nseekfs
    >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0]], metric="euclidean")
    >>> len(index), index.dims, index.metric
    (2, 2, 'euclidean')
    >>> index[1]
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
            The query vector. It is rounded once to float32, or to float64 at level ``"f64"``. At level ``"b1"`` it is
            bits, packed or bool, or numbers whose signs count, as in `from_embeddings`.
        top_k : int
            Maximum number of rows to return, at least 1.
        method : {"auto", "simd", "scalar"}
            How rows are scored. ``"auto"`` is the method that the index was built with. Built with ``"auto"``, it reads
            few rows where there are codes, and may search approximately. ``"simd"`` reads every row in full with vector
            kernels, ``"scalar"`` with plain loops. Exact answers are the same bits with all three.
        similarity : str, optional
            ``"cosine"``, ``"dot"``, ``"euclidean"`` or an alias; at level ``"b1"`` only ``"hamming"``. The default is
            the metric of the index.
        filter : array_like, optional
            The rows that may be returned: a bool for every row, in the order of `ids`, shape (rows,), or ids, shape
            (n,).
        min_score : float, optional
            For cosine and dot: return only rows whose float64 score is at least this.
        max_distance : float, optional
            For euclidean and hamming: return only rows whose float64 distance is at most this.
        recall : float, optional
            For an index with approximate search: the target recall, above 0 and at most 1. The default is that of the
            index; 1 searches exactly.
        effort : Effort, optional
            For an index with approximate search, in place of `recall`: the number of cells or buckets to visit and the
            number of rows to refine.
        threads : int, optional
            Maximum number of threads, at least 1. The default is the number of CPUs that the process may use.

        Returns
        -------
        Hits
            Best first, equal scores by the order of insertion. There are fewer than `top_k` hits only if no more rows
            qualify.

        Raises
        ------
        InputError
            If a value is not allowed or the index is closed; `InputTypeError` if a type is wrong.

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
        indices, scores, keys, certificates, _ = core.search(
            _arrays.vector("query", query, query_type(core)),
            True,
            _arguments.whole("top_k", top_k, 1),
            self._method_of(method),
            word,
            _arrays.row_filter(filter),
            _bound(word or core.metric, min_score, max_distance),
            *how_much(recall, effort),
            _arguments.maybe_whole("threads", threads),
        )
        return Hits(as_array(indices), scores, keys, Certificate(*certificates[0]))

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
            The query vectors, or none, as in `query`.
        k : int
            Number of rows to return for each query, at least 1; all allowed rows if there are fewer.
        method, similarity, filter, recall, effort, threads
            As in `query`.

        Returns
        -------
        SearchResult
            ``indices`` (ids: int64, or str of dtype object), ``scores`` (float32) and ``keys`` (float64), best first.
            Each has the shape (q, n), or (n,) for a single vector, where n is the smaller of `k` and the number of
            allowed rows.

        Raises
        ------
        InputError
            If a value is not allowed or the index is closed; `InputTypeError` if a type is wrong.

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
        block, one = _arrays.queries("queries", queries, query_type(core), core.dims)
        indices, scores, keys, _, width = core.search(
            block,
            False,
            _arguments.whole("k", k, 1),
            self._method_of(method),
            None if similarity is None else _arguments.word("similarity", similarity),
            _arrays.row_filter(filter),
            None,
            *how_much(recall, effort),
            _arguments.maybe_whole("threads", threads),
        )
        indices = as_array(indices)
        if not one:
            shape = (len(block), width)
            indices, scores, keys = indices.reshape(shape), scores.reshape(shape), keys.reshape(shape)
        return SearchResult(indices, scores, keys)

    def save(self, path: AnyPath, *, progress: Progress = None) -> None:
        """Write the index to one file, whole or not at all. An existing file is replaced.

        Parameters
        ----------
        path : path
            Name of the file.
        progress : callable or True, optional
            As in `from_embeddings`.

        Raises
        ------
        InputError
            If the path is not allowed or the index is closed; `InputTypeError` if its type is wrong.
        OSError
            If the file cannot be written. An existing file is then unchanged.
        """
        core, name = self._open(), _arguments.path("path", path)
        with _progress.Told(progress, "nseekfs save") as heard:
            core.save(name, heard)
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
        """Release the memory or the file. Searches that run in other threads end first."""
        self._core = None

    @property
    def dims(self) -> int:
        """Number of values in a row."""
        return self._open().dims

    @property
    def rows(self) -> int:
        """Number of rows that have not been deleted, the same as ``len(index)``."""
        return self._open().rows

    @property
    def level(self) -> str:
        """Type of a stored value: ``"f64"``, ``"f32"``, ``"f16"``, ``"f8"`` or ``"b1"``."""
        return self._open().level

    @property
    def metric(self) -> str:
        """Default metric of queries: ``"cosine"``, ``"dot"``, ``"euclidean"``, or ``"hamming"`` at level ``"b1"``."""
        return self._open().metric

    @property
    def normalized(self) -> bool:
        """Whether every row that was ever in the index had length 1, within 0.002."""
        return self._open().normalized

    @property
    def codes(self) -> bool:
        """Whether the rows have compact codes, so that ``"auto"`` reads few rows in full."""
        return self._open().codes

    @property
    def seed(self) -> int:
        """Seed of all random choices of the build."""
        return self._open().seed

    @property
    def nbytes(self) -> int:
        """Size of the index in bytes, in memory or in its file."""
        return self._open().nbytes

    @property
    def path(self) -> str | None:
        """Path of the file that holds the index; None if the index is in memory only."""
        return self._open().path or self._saved

    def __len__(self) -> int:
        return self._open().rows

    def __getitem__(self, item: Ids | slice) -> npt.NDArray[Any]:
        core = self._open()
        if isinstance(item, slice):
            return core.take(np.ascontiguousarray(np.arange(core.rows, dtype=np.int64)[item]))
        if isinstance(item, tuple):
            raise InputTypeError(
                f"ids: expected an id, several, or a slice, got {_arguments.shown(item)}: several axes"
            )
        mask = _arrays.maybe_mask("index", item, core.rows)
        return self.get(item) if mask is None else core.take(np.flatnonzero(mask))

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        # The rows of now, whatever changes meanwhile.
        core = self._open().copy()
        step = max(1, _arrays.BLOCK_BYTES // (8 * max(1, core.dims)))
        for start in range(0, core.rows, step):
            yield from core.take(np.arange(start, min(start + step, core.rows), dtype=np.int64))

    def __reversed__(self) -> Iterator[npt.NDArray[Any]]:
        core = self._open().copy()
        return (core.take(np.array([at], np.int64))[0] for at in range(core.rows - 1, -1, -1))

    def __contains__(self, item: object) -> bool:
        if isinstance(item, bool) or not (isinstance(item, str) or hasattr(item, "__index__")):
            raise InputTypeError(
                f"id: expected an int or a str, got {_arguments.shown(item)}; contains() takes several, and "
                "index.query(vector, 1) finds the nearest row"
            )
        return bool(self.contains(item))  # type: ignore[arg-type]

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
            return _restore, (self._open().to_bytes(), self._method)
        return _reopen, (path, self._method, self._mode, self._ann)

    def __copy__(self) -> "Index":
        copied = Index(self._open().copy(), self._method, self._mode, self._ann)
        copied._saved = self._saved
        return copied

    def __deepcopy__(self, memo: object) -> "Index":
        # What the copies share never changes.
        return self.__copy__()

    def __repr__(self) -> str:
        core = self._core
        if core is None:
            return "<nseekfs.Index, closed>"
        path = core.path or self._saved
        file = f", {_arguments.printable(path)}" if path else ""
        kind = "exact" if core.ann is None else core.ann[0]
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

    def _to_change(self) -> _core.Index:
        """The open index, which will no longer be what `save` wrote."""
        core = self._open()
        self._saved = None
        return core

    def _method_of(self, method: object) -> str:
        word = _arguments.word("method", method)
        return self._method if word == "auto" else word


def _reopen(path: str, method: str, mode: str, ann: bool) -> Index:
    return Index(_core.load(path, mode, "auto", ann, False), method, mode, ann)


def _restore(file: npt.NDArray[np.uint8], method: str) -> Index:
    return Index(_core.from_bytes(file), method)


def _bound(metric: str, min_score: object, max_distance: object) -> float | None:
    """The limit of a search by `metric`: `max_distance` for euclidean and hamming, `min_score` for the others."""
    if min_score is None and max_distance is None:
        return None
    distance = _arguments.is_distance(metric)
    right, wrong = ("max_distance", "min_score") if distance else ("min_score", "max_distance")
    given = {"min_score": min_score, "max_distance": max_distance}
    if given[wrong] is not None:
        raise InputError(f"{wrong}: expected {right} because the query compares by {metric}, got {wrong}")
    return None if given[right] is None else _arguments.real(right, given[right])


def _size(nbytes: int) -> str:
    """A number of bytes with its unit."""
    size, units = float(nbytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
