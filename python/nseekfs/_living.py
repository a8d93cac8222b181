"""The methods of `Index` that change it, and those that concern ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._errors import InputError
from nseekfs._typing import Count, Embeddings, Ids

STORED: dict[str, _arrays.Store] = {"f16": np.float16, "f32": np.float32, "b1": np.uint8}
"""The type that extended floats are rounded to, once, or the packed bits, by level; float64 for other levels."""


class Living:
    """Base of `Index` that holds the methods by which it changes."""

    __slots__ = ()

    def _open(self) -> _core.Index:
        raise NotImplementedError

    def _to_change(self) -> _core.Index:
        raise NotImplementedError

    def add(self, embeddings: Embeddings, ids: Ids | None = None, *, threads: Count | None = None) -> npt.NDArray[Any]:
        """Add rows.

        Parameters
        ----------
        embeddings : array_like of real numbers, shape (rows, dims) or (dims,)
            The new rows, as in `from_embeddings`. They are copied.
        ids : array_like of int or str, shape (rows,), optional
            Ids that the index does not have, each once; all ids of an index are of one type. The default are the
            numbers after the largest that has ever been an id, so none is used twice.
        threads : int, optional
            As in `query`.

        Returns
        -------
        ndarray of int64 or of str (dtype object), shape (rows,)
            The ids of the rows.

        Raises
        ------
        InputError
            If a value is not allowed, an id exists, or the index is closed or opened for reading; `InputTypeError` if a
            type is wrong. Nothing is then added.
        OSError
            If the file cannot be written. Nothing is then added.

        Examples
        --------
        >>> import nseekfs
        >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0]])
        >>> index.add([[3.0, 4.0]])
        array([2])
        >>> len(index)
        3
        """
        core = self._to_change()
        rows = _new_rows(embeddings, core)
        given = None if ids is None else several("ids", ids)
        first = core.add(rows, given, _arguments.maybe_whole("threads", threads))
        if given is not None:
            return as_array(given)
        return np.arange(len(rows), dtype=np.int64) + (first or 0)

    def upsert(self, embeddings: Embeddings, ids: Ids, *, threads: Count | None = None) -> None:
        """Add rows in place of those that have the same ids.

        A replaced row counts as deleted, and the new one as inserted last.

        Parameters
        ----------
        embeddings : array_like of real numbers, shape (rows, dims) or (dims,)
            The new rows, as in `add`.
        ids : array_like of int or str, shape (rows,)
            Their ids. Of an id that occurs twice, the last row counts.
        threads : int, optional
            As in `query`.

        Raises
        ------
        InputError
            As in `add`. Nothing is then changed.
        OSError
            If the file cannot be written. Nothing is then changed.
        """
        core = self._to_change()
        core.upsert(_new_rows(embeddings, core), several("ids", ids), _arguments.maybe_whole("threads", threads))

    def delete(self, ids: Ids) -> int:
        """Delete rows.

        Parameters
        ----------
        ids : int, str or array_like of them
            Ids of rows. Those that the index does not have are ignored.

        Returns
        -------
        int
            How many rows were deleted.

        Raises
        ------
        InputError
            If the ids are of another type than those of the index, or the index is closed or opened for reading;
            `InputTypeError` if a type is wrong. Nothing is then deleted.
        OSError
            If the file cannot be written. Nothing is then deleted.

        Examples
        --------
        >>> import nseekfs
        >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0]], ids=["a", "b"])
        >>> index.delete(["a", "c"])
        1
        >>> index.ids
        array(['b'], dtype=object)
        """
        return self._to_change().delete(several("ids", ids))

    def get(self, ids: Ids) -> npt.NDArray[Any]:
        """The rows of some ids, in their order: ``index[ids]``.

        Parameters
        ----------
        ids : int, str or array_like of them, of any shape

        Returns
        -------
        ndarray of float32, or float64 at level ``"f64"``, shape (dims,) or (..., dims)
            Copies of the rows as stored; at level ``"b1"`` packed bits, uint8, shape (..., dims / 8).

        Raises
        ------
        MissingIdError
            If the index has no row of an id. It is a KeyError and an IndexError.
        InputError
            If the index is closed; `InputTypeError` if a type is wrong.
        """
        core = self._open()
        flat, shape = _arrays.ids("ids", ids)
        rows = core.get(flat)
        return rows[0] if shape is None else rows.reshape(*shape, rows.shape[-1])

    def contains(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Of each id, whether the index has a row with it: ``id in index`` for several.

        Parameters
        ----------
        ids : int, str or array_like of them, of any shape

        Returns
        -------
        ndarray of bool, of the same shape
        """
        flat, shape = _arrays.ids("ids", ids)
        return self._open().contains(flat).reshape(shape or ())

    @property
    def ids(self) -> npt.NDArray[Any]:
        """The ids of all rows in the order of their insertion: int64, or str in an array of dtype object."""
        return as_array(self._open().ids)

    @property
    def writable(self) -> bool:
        """Whether the index can be changed: it is in memory, or its file was opened with ``writable=True``."""
        return self._open().writable

    @property
    def generation(self) -> int | None:
        """Number of the commit of the file that the index shows; None in memory."""
        return self._open().generation

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make all changes within a ``with`` statement at once, in one commit of a file, or none if it raises.

        Searches and `ids` show the state before the batch until it ends. Changes of other threads wait for its end.

        Raises
        ------
        InputError
            If the index is closed or opened for reading, or in a batch already.
        OSError
            If the file cannot be written. None of the changes is then made.

        Examples
        --------
        >>> import nseekfs
        >>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0]])
        >>> with index.batch():
        ...     index.delete(0)
        ...     added = index.add([[0.6, 0.8], [0.8, 0.6]])
        1
        >>> index.ids
        array([1, 2, 3])
        """
        core = self._to_change()
        core.begin()
        try:
            yield
        except BaseException:
            core.end(False)
            raise
        core.end(True)

    def compact(self, *, threads: Count | None = None) -> None:
        """Give back the bytes of deleted rows, and make codes, cells or buckets anew.

        This happens by itself where rows or bytes are 1.5 times those that are needed, where a table has outgrown its
        codes, and where a fifth of the rows is not in the cells or buckets yet; `compact_automatically` sets when.

        Parameters
        ----------
        threads : int, optional
            As in `query`.

        Raises
        ------
        FormatError
            If the file has been damaged: nothing is copied that is not right.
        InputError
            If the index is closed or opened for reading.
        OSError
            If the file cannot be written. It is then unchanged.
        """
        self._open().compact(_arguments.maybe_whole("threads", threads))

    def compact_automatically(self, ratio: float | None) -> None:
        """Set when changes compact the index, for as long as it is open.

        Parameters
        ----------
        ratio : float or None
            How many times the rows, or the bytes of the file, that are needed there may be, above 1; 1.5 unless it is
            set. None: changes compact nothing, and `compact` does when it is called.

        Raises
        ------
        InputError
            If the ratio is not above 1, or the index is closed or opened for reading; `InputTypeError` if its type is
            wrong.
        """
        self._open().compact_automatically(_arguments.maybe_real("ratio", ratio))

    def refresh(self) -> bool:
        """Move to the newest commit of the file, if the index was opened for reading.

        Returns
        -------
        bool
            Whether there was a newer one. An index that can be changed is always at its newest.

        Raises
        ------
        FormatError
            If the newest commit is damaged. The index stays as it is.
        OSError
            If the file cannot be read.
        """
        return self._open().refresh()


def as_array(ids: npt.NDArray[np.int64] | list[str]) -> npt.NDArray[Any]:
    """Ids as an array: int64, or str as objects."""
    if not isinstance(ids, list):
        return ids
    array = np.empty(len(ids), object)
    array[:] = ids
    return array


def several(argument: str, ids: object) -> npt.NDArray[np.int64] | list[str]:
    """Ids in one dimension."""
    flat, shape = _arrays.ids(argument, ids)
    if shape is not None and len(shape) != 1:
        raise InputError(f"{argument}: expected ids in one dimension, got {_arrays.shape_text(shape)}")
    return flat


def _new_rows(embeddings: object, core: _core.Index) -> npt.NDArray[Any]:
    """Rows to be added, as one block."""
    return _arrays.new_rows("embeddings", embeddings, STORED.get(core.level, np.float64), core.dims)
