"""Conversion of single arguments to the types that the extension module takes.

Functions raise `InputTypeError` for a wrong type, and `InputError` for a number that does not fit a machine word or
the given range. The extension module checks all other values.
"""

import numbers
import operator
import os
from typing import get_args

import numpy as np

from nseekfs._errors import InputError, InputTypeError
from nseekfs._typing import EuclideanWord, HammingWord

MOST = 2**63 - 1
"""The largest whole number that the extension module takes, except for seeds."""


def shown(value: object) -> str:
    """A value, short enough for an error message."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, str | bytes | int | float | np.generic):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    kind = type(value)
    return f"a {kind.__name__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__name__}"


def printable(text: str) -> str:
    """`text` with what no encoding holds, such as the bytes of a file name that are no UTF-8, written as escapes."""
    return text.encode(errors="backslashreplace").decode()


def whole(argument: str, value: object, low: int = -MOST - 1, high: int = MOST) -> int:
    """A whole number of Python or numpy, from `low` to `high`."""
    if type(value) is int and low <= value <= high:
        return value
    if isinstance(value, bool | np.bool_):
        raise InputTypeError(f"{argument}: expected a whole number, got {shown(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputTypeError(f"{argument}: expected a whole number, got {shown(value)}") from None
    if number < low and high == MOST:
        raise InputError(f"{argument}: expected a whole number of at least {low}, got {shown(number)}")
    if not low <= number <= high:
        raise InputError(f"{argument}: expected a whole number from {low} to {high}, got {shown(number)}")
    return number


def maybe_whole(argument: str, value: object, low: int = -MOST - 1, high: int = MOST) -> int | None:
    """`whole`, or None for None."""
    return None if value is None else whole(argument, value, low, high)


def real(argument: str, value: object) -> float:
    """A real number of Python or numpy as a float64."""
    if type(value) is float:
        return value
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise InputTypeError(f"{argument}: expected a real number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{argument}: expected a number within float64, got {shown(value)}") from None


def maybe_real(argument: str, value: object) -> float | None:
    """`real`, or None for None."""
    return None if value is None else real(argument, value)


def flag(argument: str, value: object) -> bool:
    """True or False, of Python or numpy; nothing else is converted."""
    if not isinstance(value, bool | np.bool_):
        raise InputTypeError(f"{argument}: expected True or False, got {shown(value)}")
    return bool(value)


def maybe_flag(argument: str, value: object) -> bool | None:
    """`flag`, or None for None."""
    return None if value is None else flag(argument, value)


def word(argument: str, value: object) -> str:
    """A string; the extension module checks which words are allowed."""
    if not isinstance(value, str):
        raise InputTypeError(f"{argument}: expected a word, got {shown(value)}")
    return printable(value)


def maybe_word(argument: str, value: object) -> str | None:
    """`word`, or None for None."""
    return None if value is None else word(argument, value)


def is_distance(metric: str) -> bool:
    """Whether smaller scores of this metric are better."""
    return metric in (*get_args(EuclideanWord), *get_args(HammingWord))


def path(argument: str, value: object) -> str:
    """An absolute path from a string, bytes or `os.PathLike`."""
    try:
        text = os.fsdecode(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputTypeError(f"{argument}: expected a path, got {shown(value)}") from None
    if not text or "\0" in text:
        raise InputError(f"{argument}: expected a path without NUL and not empty, got {text!r}")
    return os.path.abspath(_nameable(argument, text))


def _nameable(argument: str, text: str) -> str:
    """`text` if the system can name a file so."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError(f"{argument}: expected a name that the file system can hold, got {text!r}") from None
    return text


def file_stem(argument: str, value: object) -> str:
    """A file name without separators."""
    if not isinstance(value, str):
        raise InputTypeError(f"{argument}: expected a word, got {shown(value)}")
    stem = _nameable(argument, value)
    if stem in ("", ".", "..") or any(mark in stem for mark in "/\\\0"):
        raise InputError(
            f"{argument}: expected a file name without separators, the folder being output_dir, got {stem!r}"
        )
    return stem
