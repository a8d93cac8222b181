"""Types of the arguments of public functions.

The literals are the words that the extension module accepts; a test compares the two.
"""

import os
from collections.abc import Iterator
from typing import Any, Literal, Protocol, SupportsIndex, TypeAlias

import numpy.typing as npt

CosineWord: TypeAlias = Literal["cosine", "cos", "cosine_similarity"]
DotWord: TypeAlias = Literal["dot", "dot_product", "ip", "inner_product", "inner"]
EuclideanWord: TypeAlias = Literal["euclidean", "l2", "euclidean_distance", "euclid"]
HammingWord: TypeAlias = Literal["hamming"]
DistanceWord: TypeAlias = EuclideanWord | HammingWord
Metric: TypeAlias = CosineWord | DotWord | DistanceWord
ClusterMetric: TypeAlias = CosineWord | EuclideanWord
Level: TypeAlias = Literal["f64", "f32", "f16", "f8", "b1"]
Method: TypeAlias = Literal["auto", "simd", "scalar"]
Mode: TypeAlias = Literal["mmap", "ram"]
Verify: TypeAlias = Literal["auto", "header", "full"]


class SupportsDLPack(Protocol):
    """A producer of the DLPack protocol, such as a torch or a JAX array."""

    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> Any: ...


class ProgressCall(Protocol):
    """A callable that hears how much of a work is done."""

    def __call__(self, done: int, total: int, /) -> object: ...


Progress: TypeAlias = ProgressCall | bool | None
"""A callable that is called with (done, total), True for a bar of tqdm, or None.

``done / total`` estimates the share of the time that has passed. `total` is the same in every call, `done` grows from
call to call, and reaches `total` once, when the work is over. The calls come from the calling thread: a hundred or so,
or ten a second where the work takes long. What the callable raises ends the work, leaves no file behind and reaches
the caller; in the last call, the work is done already.
"""


Vectors: TypeAlias = npt.ArrayLike | SupportsDLPack
"""Real numbers: an array of any layout, nested lists, a buffer, a DLPack tensor on the CPU, or a column of vectors.

At level ``"b1"`` uint8 holds packed bits, and bools are bits.
"""
Embeddings: TypeAlias = Vectors | Iterator[npt.ArrayLike | SupportsDLPack]
"""`Vectors`, or an iterator of blocks of rows."""

Filter: TypeAlias = npt.ArrayLike | SupportsDLPack
"""The rows that may be returned: a bool for every row, or ids of rows."""

Ids: TypeAlias = npt.ArrayLike | SupportsDLPack
"""Integers within int64, or strings; one, or an array or a list of them."""

Count: TypeAlias = SupportsIndex
"""A whole number of Python or numpy; a bool is refused."""

AnyPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""The name of a file or a folder."""
