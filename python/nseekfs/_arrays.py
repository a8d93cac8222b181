"""Conversion of arrays of real numbers to the contiguous native blocks that the extension module reads.

Arrays that the extension can read in place are passed on unchanged. All others are converted a block of rows at a
time, so that there is never a second whole copy. Conversion here is exact: float16 and small integers become float32
or float64. The extension rounds values to the type that an index stores. Typed errors refuse bool, complex, text, dates
and objects, masked entries, rows of unequal length, and unexpected shapes.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nseekfs._arguments import shown
from nseekfs._errors import InputError, InputTypeError

Array: TypeAlias = npt.NDArray[Any]

BLOCK_BYTES = 8 << 20
"""Size of a converted block: small beside any index, large beside the cost of a call."""

_REMEDY = "; give a numpy array, or a tensor on the CPU without gradient, of a float or integer type"

_NATIVE: dict[type[np.floating[Any]], np.dtype[Any]] = {kind: np.dtype(kind) for kind in (np.float32, np.float64)}
"""The dtype object of arrays in native byte order, by scalar type; identity with it is a fast check."""

_EXACT: dict[tuple[str, int], np.dtype[Any]] = {
    ("f", 2): np.dtype(np.float32),
    ("f", 4): np.dtype(np.float32),
    ("f", 8): np.dtype(np.float64),
    ("i", 1): np.dtype(np.float32),
    ("i", 2): np.dtype(np.float32),
    ("i", 4): np.dtype(np.float64),
    ("i", 8): np.dtype(np.int64),
    ("u", 1): np.dtype(np.float32),
    ("u", 2): np.dtype(np.float32),
    ("u", 4): np.dtype(np.float64),
    ("u", 8): np.dtype(np.uint64),
}
"""From kind and item size of a dtype to the type that the extension reads and that holds all of its values."""


class Rows:
    """A matrix of any supported kind, read once from top to bottom, a block of rows at a time."""

    def __init__(self, argument: str, value: object) -> None:
        self._argument = argument
        self._source: Sequence[Any] | Array
        if isinstance(value, list | tuple):
            self._source = value
            first = numbers(argument, value[0]).shape if value else (0,)
            self.shape = matrix_shape(argument, (len(value), *first))
        else:
            self._source = numbers(argument, value)
            self.shape = matrix_shape(argument, self._source.shape)

    def whole(self, store: type[np.floating[Any]]) -> Array | None:
        """All rows, if the extension can read them in place as `store`; else None."""
        source = self._source
        if isinstance(source, np.ndarray) and source.dtype == store and readable(source, store) is source:
            return source
        return None

    def blocks(self, store: type[np.floating[Any]]) -> Iterator[Array]:
        """The rows in order, in blocks; `store` is the type that extended floats are rounded to, once."""
        rows, dims = self.shape
        step = max(1, BLOCK_BYTES // (8 * dims))
        for start in range(0, rows, step):
            block = numbers(self._argument, self._source[start : start + step])
            if block.shape != (min(step, rows - start), dims):
                raise InputError(
                    f"{self._argument}: expected {dims} numbers in every row because the first has as many, "
                    f"got a block of shape {block.shape} from row {start}"
                )
            yield readable(block, store)


def matrix(argument: str, value: object, store: type[np.floating[Any]]) -> tuple[Array, bool]:
    """One or several vectors as an array of shape (m, dims), and whether it was a single vector."""
    array = numbers(argument, value)
    if array.ndim == 1:
        return vector(argument, array, store), True
    matrix_shape(argument, array.shape)
    return readable(array, store), False


def vector(argument: str, value: object, store: type[np.floating[Any]]) -> Array:
    """One vector as an array of shape (1, dims)."""
    if (
        type(value) is np.ndarray
        and value.dtype is _NATIVE[store]
        and value.ndim == 1
        and value.size
        and value.flags.carray
    ):
        # The common case needs no conversion.
        return value.reshape(1, -1)
    array = numbers(argument, value)
    if array.ndim != 1 or array.size == 0:
        raise InputError(
            f"{argument}: expected one vector of shape (dims,), got {shape_text(array.shape)}"
            + ("; search() takes several" if array.ndim == 2 else "")
        )
    return readable(array.reshape(1, -1), store)


def row_filter(value: object) -> Array | None:
    """A filter as bool, one for every row, or as int64 row numbers; None for None."""
    if value is None:
        return None
    expected = "a bool for every row, or row numbers"
    if isinstance(value, list | tuple):
        if not value:
            return np.empty(0, np.int64)
        if 0 < sum(isinstance(item, bool | np.bool_) for item in value) < len(value):
            raise InputTypeError(f"filter: expected {expected}, got a mixture of the two")
    array = numbers("filter", value, "biu", expected)
    if array.ndim != 1:
        raise InputError(f"filter: expected {expected}, in one dimension, got {shape_text(array.shape)}")
    if array.dtype.kind == "b":
        return np.require(array, np.bool_, ["C"])
    if array.dtype.kind == "u":
        array = np.minimum(array, np.uint64(2**63 - 1))
    return np.require(array, np.int64, ["C", "A"])


def numbers(argument: str, value: object, kinds: str = "fiu", expected: str = "an array of real numbers") -> Array:
    """`value` as an array whose dtype is of one of `kinds`; it shares the memory of `value` where possible."""
    try:
        array = _asarray(value)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{argument}: expected {expected} with rows of equal length: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise InputTypeError(f"{argument}: expected {expected}, got {shown(value)}: {error}{_REMEDY}") from error
    if array is None:
        raise InputError(f"{argument}: expected {expected}, got masked entries; fill or drop them first")
    if array.dtype.kind not in kinds:
        if array.dtype.kind == "O" and not isinstance(value, np.ndarray):
            raise InputTypeError(f"{argument}: expected {expected}, got {_odd_items(value)}")
        remedy = "; convert it to float32, which holds it exactly" if array.dtype.name == "bfloat16" else ""
        raise InputTypeError(f"{argument}: expected {expected}, got dtype {array.dtype}{remedy}")
    return array


def readable(array: Array, store: type[np.floating[Any]]) -> Array:
    """`array` itself if the extension can read it in place, else an exact conversion."""
    exact = _EXACT.get((array.dtype.kind, array.dtype.itemsize))
    if exact is None:
        with np.errstate(over="ignore"):
            rounded = array.astype(store)
            if not np.isfinite(rounded).all():
                rounded = array.astype(np.float64)
        return readable(rounded, store)
    if array.dtype is exact and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, exact, ["C", "A"])


def matrix_shape(argument: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """`shape`, if it is that of a matrix with at least one row and one dim."""
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"{argument}: expected shape (rows, dims) with at least one of each, got {shape_text(shape)}")
    return shape[0], shape[1]


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as text for error messages."""
    return f"shape {shape}" if shape else "a single number"


def _asarray(value: object) -> Array | None:
    """`value` as a numpy array, or None if some of its entries are masked."""
    masked = sys.modules.get("numpy.ma")  # slow to import, and imported by whoever made a masked array
    if masked is not None:
        items = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(item, masked.MaskedArray) and masked.is_masked(item) for item in items):
            return None
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def _odd_items(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} with items that are not real numbers of 64 bits"
    return shown(value)
