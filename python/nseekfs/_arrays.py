"""Conversion of arrays of real numbers to the contiguous native blocks that the extension module reads.

Arrays that the extension can read in place are passed on unchanged. All others are converted a block of rows at a
time, so that there is never a second whole copy. Conversion here is exact: float16, bfloat16 and small integers become
float32 or float64. The extension rounds values to the type that an index stores. Columns of tables and tensors with a
gradient are recognised by their attributes; no library is imported. Typed errors refuse bool, complex, text, dates and
objects, masked entries, rows of unequal length, and unexpected shapes.

At level ``"b1"`` the dtype decides alone: uint8 is packed bits, bool is bits, and of other real numbers the signs
count.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nseekfs._arguments import shown, whole
from nseekfs._errors import InputError, InputTypeError

Array: TypeAlias = npt.NDArray[Any]
Store: TypeAlias = type[np.floating[Any]] | type[np.uint8]
"""A type that an index stores numbers in; uint8 are packed bits."""

BLOCK_BYTES = 8 << 20
"""Size of a converted block: small beside any index, large beside the cost of a call."""

_REMEDY = "; give a numpy array, or a tensor on the CPU without gradient, of a float or integer type"
"""What helps with most objects that refuse to become an array."""

_REMEDIES = {
    "__next__": "; join what it gives first, such as np.concatenate(list(blocks))",
    "toarray": "; a sparse matrix becomes an array by its toarray()",
    "weight": "; give its weight",
    "columns": "; give its one column of vectors",
    "values": "; give an array of its values",
}
"""What helps with an object that has an attribute of this name."""

_NATIVE: dict[Store, np.dtype[Any]] = {kind: np.dtype(kind) for kind in (np.float32, np.float64, np.uint8)}
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
    """A matrix of any supported kind, read once from top to bottom, a block of rows at a time.

    The blocks of an iterator are kept until they are read: only its end tells the number of rows. `store` is the type
    that extended floats are rounded to, once, or that of packed bits; `shape` counts numbers, not bytes.
    """

    def __init__(self, argument: str, value: object, store: Store) -> None:
        self._argument = argument
        self._store = store
        self._parts: list[Any]
        if isinstance(value, Iterator):
            self._parts = collected(argument, value, store)
            dims = shape_of(self._parts[0], store)[1] if self._parts else 0
            shape: tuple[int, ...] = (sum(map(len, self._parts)), dims)
        else:
            source = _sliceable(argument, value, store)
            self._parts = [source]
            if not isinstance(source, Sequence):
                shape = shape_of(source, store)
            else:
                first = shape_of(numbers(argument, source[0], kinds_of(store)), store) if len(source) else (0,)
                shape = (len(source), *first)
        self.shape = matrix_shape(argument, shape)

    def whole(self) -> Array | None:
        """All rows, if the extension can read them in place as `store`; else None."""
        source, store = self._parts[0], self._store
        if (
            len(self._parts) == 1
            and isinstance(source, np.ndarray)
            and source.dtype == store
            and readable(source, store) is source
        ):
            return source
        return None

    def blocks(self) -> Iterator[Array]:
        """The rows in order, in blocks."""
        dims, first = self.shape[1], 0
        for part in self._parts:
            step = max(1, BLOCK_BYTES // (dims // 8 if _is_packed(part, self._store) else 8 * dims))
            for start in range(0, len(part), step):
                block = numbers(self._argument, part[start : start + step], kinds_of(self._store))
                if shape_of(block, self._store) != (min(step, len(part) - start), dims):
                    raise InputError(
                        f"{self._argument}: expected {dims} numbers in every row because the first has as many, "
                        f"got a block of shape {block.shape} from row {first + start}"
                    )
                yield readable(block, self._store)
            first += len(part)


def kinds_of(store: Store) -> str:
    """The kinds of dtypes that rows and queries may have."""
    return "fiub" if store is np.uint8 else "fiu"


def shape_of(array: Any, store: Store) -> tuple[int, ...]:
    """The shape of an array, the last part of it in numbers where that is packed."""
    shape = tuple(array.shape)
    return (*shape[:-1], 8 * shape[-1]) if shape and _is_packed(array, store) else shape


def _is_packed(array: Any, store: Store) -> bool:
    return store is np.uint8 and isinstance(array, np.ndarray) and array.dtype == np.uint8


def collected(argument: str, values: Iterator[object], store: Store) -> list[Array]:
    """Copies of the blocks or rows that an iterator gives, which may use one array for all; small ones are joined."""
    parts: list[Array] = []
    pending: list[Array] = []
    for value in values:
        block = numbers(argument, value, kinds_of(store))
        if block.ndim not in (1, 2):
            raise InputError(
                f"{argument}: expected an iterator of blocks of shape (rows, dims) or of rows, "
                f"got one of {shape_text(block.shape)}"
            )
        block = np.array(block.reshape(-1, block.shape[-1]))
        if not len(block):
            continue
        alike = not pending or (block.dtype, block.shape[1]) == (pending[0].dtype, pending[0].shape[1])
        if not alike or sum(part.nbytes for part in pending) > BLOCK_BYTES:
            parts.append(np.concatenate(pending))
            pending = []
        pending.append(block)
    return [*parts, np.concatenate(pending)] if pending else parts


def matrix(argument: str, value: object, store: Store) -> tuple[Array, bool]:
    """One or several vectors as an array of shape (m, dims), and whether it was a single vector."""
    array = numbers(argument, value, kinds_of(store))
    if array.ndim == 1:
        return vector(argument, array, store), True
    matrix_shape(argument, array.shape)
    return readable(array, store), False


def queries(argument: str, value: object, store: Store, dims: int) -> tuple[Array, bool]:
    """`matrix`, of no vectors too: nothing at all, or an array that holds none."""
    array = numbers(argument, value, kinds_of(store))
    if array.shape == (0,) or (array.ndim == 2 and len(array) == 0):
        return np.empty((0, shape_of(array, store)[-1] or dims), np.float32), False
    return matrix(argument, array, store)


def new_rows(argument: str, value: object, store: Store, dims: int) -> Array:
    """One or several rows, or none, as one block; an iterator of blocks too."""
    if isinstance(value, Iterator):
        parts = [readable(part, store) for part in collected(argument, value, store)]
        if len({_is_packed(part, store) for part in parts}) > 1:
            raise InputError(f"{argument}: expected blocks of bits or blocks of numbers, got an iterator of both")
        return np.concatenate(parts) if parts else np.empty((0, dims), np.float32)
    array = numbers(argument, value, kinds_of(store))
    if array.shape == (0,) or (array.ndim == 2 and len(array) == 0):
        return np.empty((0, shape_of(array, store)[-1] or dims), np.float32)
    array = array.reshape(1, -1) if array.ndim == 1 else array
    matrix_shape(argument, array.shape)
    return readable(array, store)


def vector(argument: str, value: object, store: Store) -> Array:
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
    array = numbers(argument, value, kinds_of(store))
    if array.ndim != 1 or array.size == 0:
        raise InputError(
            f"{argument}: expected one vector of shape (dims,), got {shape_text(array.shape)}"
            + ("; search() takes several" if array.ndim == 2 else "")
        )
    return readable(array.reshape(1, -1), store)


def row_filter(value: object) -> Array | list[str] | None:
    """A filter as bool, one for every row, or as ids; None for None."""
    if value is None:
        return None
    expected = "a bool for every row, or ids of rows"
    texts = _texts("filter", value)
    if texts is not None:
        return texts
    if isinstance(value, list | tuple) and mixed(value):
        raise InputTypeError(f"filter: expected {expected}, got a mixture of the two")
    array = np.empty(0, np.int64) if _is_empty(value) else numbers("filter", value, "biu", expected)
    if array.ndim != 1:
        raise InputError(f"filter: expected {expected}, in one dimension, got {shape_text(array.shape)}")
    return np.require(array, np.bool_, ["C"]) if array.dtype.kind == "b" else _int64(array)


def ids(argument: str, value: object) -> tuple[Array | list[str], tuple[int, ...] | None]:
    """Ids as int64 or as strings, flat, and the shape that they came in; None for a single id."""
    expected = "an id, which is an int or a str, or several"
    if isinstance(value, str):
        return [value], None
    if hasattr(value, "__index__") and not (hasattr(value, "ndim") and value.ndim):
        return np.array([whole(argument, value)], np.int64), None
    texts = _texts(argument, value)
    if texts is not None:
        return texts, getattr(value, "shape", (len(texts),))
    if _is_empty(value):
        return np.empty(0, np.int64), (0,)
    if isinstance(value, list | tuple) and mixed(value):
        raise InputTypeError(f"{argument}: expected {expected}, got a mixture of bools and others")
    array = numbers(argument, value, "iu", expected)
    return _int64(array).reshape(-1), array.shape


def maybe_mask(argument: str, value: object, rows: int) -> Array | None:
    """`value` if it is a bool for each of `rows` rows; None if it holds no bools."""
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(first, bool | np.bool_) and str(getattr(value, "dtype", "")).removeprefix("torch.") != "bool":
        return None
    mask = numbers(argument, value, "b", "a bool for every row")
    if mask.shape != (rows,):
        raise InputError(f"{argument}: expected a bool for each of {rows} rows, got {shape_text(mask.shape)}")
    return mask


def _texts(argument: str, value: object) -> list[str] | None:
    """Strings, from a list or from an array or column of them; None if these are no strings."""
    items: list[object]
    if isinstance(value, list | tuple):
        items = list(value)
    elif getattr(getattr(value, "dtype", None), "kind", "") in ("U", "O", "T"):
        items = np.asarray(value).reshape(-1).tolist()
    else:
        return None
    strings = [item for item in items if isinstance(item, str)]
    if strings and len(strings) < len(items):
        raise InputTypeError(f"{argument}: expected ids of one type, got strings and others")
    return [str(item) for item in strings] if strings else None


def _is_empty(value: object) -> bool:
    return isinstance(value, list | tuple) and not value


def _int64(array: Array) -> Array:
    """Integers as int64; those beyond it become the largest, which hardly a row has."""
    if array.dtype.kind == "u":
        array = np.minimum(array, np.uint64(2**63 - 1))
    return np.require(array, np.int64, ["C", "A"])


def mixed(items: Sequence[object]) -> bool:
    """Whether some items are bools and some are not."""
    return 0 < sum(isinstance(item, bool | np.bool_) for item in items) < len(items)


def numbers(argument: str, value: object, kinds: str = "fiu", expected: str = "an array of real numbers") -> Array:
    """`value` as an array whose dtype is of one of `kinds`, sharing its memory wherever possible."""
    array = _converted(argument, value, expected)
    rows = _object_rows(array)
    if rows is not None:
        array = _converted(argument, rows, expected)
    return _checked(argument, value, array, kinds, expected)


def _sliceable(argument: str, value: object, store: Store) -> Any:
    """`value` as a sequence or an array whose slices `numbers` reads, so that they alone are converted."""
    expected = "an array of real numbers"
    if isinstance(value, list | tuple):
        return value
    value = _detached(value)
    if _is_narrow(value) or (
        isinstance(value, Sequence)
        and not hasattr(value, "__array__")
        and not isinstance(value, str | bytes | memoryview)
    ):
        return value
    array = _converted(argument, value, expected)
    rows = _object_rows(array)
    return _checked(argument, value, array, kinds_of(store), expected) if rows is None else rows


def _converted(argument: str, value: object, expected: str) -> Array:
    """numpy's view of `value`, of any dtype."""
    try:
        array = _asarray(value)
    except (ValueError, OverflowError) as error:
        missing = [row for row, item in enumerate(value) if item is None] if isinstance(value, list) else []
        reason = f"got None for row {missing[0]}; fill or drop it first" if missing else _text(error)
        raise InputError(f"{argument}: expected {expected} with rows of equal length: {reason}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise InputTypeError(f"{argument}: expected {expected}, got {shown(value)}: {_text(error)}{_REMEDY}") from error
    if array is None:
        raise InputError(f"{argument}: expected {expected}, got masked entries; fill or drop them first")
    return array


def _checked(argument: str, value: object, array: Array, kinds: str, expected: str) -> Array:
    """`array`, which was made of `value`, if its dtype is of one of `kinds`."""
    if array.dtype.kind not in kinds and not ("f" in kinds and _is_narrow(array)):
        if array.dtype.kind == "O" and not isinstance(value, np.ndarray):
            raise InputTypeError(f"{argument}: expected {expected}, got {_odd_items(value)}")
        raise InputTypeError(f"{argument}: expected {expected}, got dtype {array.dtype}")
    return array


def readable(array: Array, store: Store) -> Array:
    """`array` itself if the extension can read it in place, else an exact conversion."""
    if store is np.uint8:
        if array.dtype.kind == "b" and array.shape[-1] % 8 == 0:
            array = np.packbits(array, axis=-1)
        if array.dtype == np.uint8:
            return np.require(array, None, ["C", "A"])
        store = np.float64
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
    if isinstance(value, list | tuple) and any(hasattr(kind, "detach") for kind in set(map(type, value))):
        value = [_plain(item) for item in value]
    value = _plain(value)
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def _detached(value: Any) -> Any:
    """A tensor without its gradient, such as the weight of a layer; anything else as it is."""
    return value.detach() if hasattr(value, "requires_grad") and hasattr(value, "detach") else value


def _plain(value: Any) -> Any:
    """A tensor without its gradient, and of a type that numpy has; anything else as it is."""
    value = _detached(value)
    return value.float() if hasattr(value, "float") and _is_narrow(value) else value


def _is_narrow(value: Any) -> bool:
    """Whether these are numbers of a type that numpy lacks and float32 holds: bfloat16, or a float of 8 bits."""
    name = str(getattr(value, "dtype", "")).removeprefix("torch.")
    return name.startswith(("bfloat16", "float8_", "float4_", "float6_"))


def _object_rows(array: Array) -> list[Any] | None:
    """The rows of a column of vectors, each an object of its own, as tables hand it out; the table may have but one."""
    one_column = array.shape in ((array.size,), (array.size, 1))
    if array.dtype.kind != "O" or not one_column or not array.size or not hasattr(array.flat[0], "__len__"):
        return None
    return list(array.flat)


def _text(error: Exception) -> str:
    """What `error` says, if it can say something."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def _odd_items(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} with items that are not real numbers of 64 bits"
    return shown(value) + next((remedy for name, remedy in _REMEDIES.items() if hasattr(value, name)), "")
