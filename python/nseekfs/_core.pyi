"""Types of the extension module, which the facade calls with checked arguments.

Arrays are C-contiguous. Queries and rows have the shape (m, dims). Functions raise `InputError`, `FormatError`,
`OSError` and `MemoryError`, as the public functions document.
"""

from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from nseekfs._clusters import Training
from nseekfs._typing import ProgressCall
from nseekfs.params import IVF, LSH, Effort

__all__ = [
    "MAX_BITS",
    "MAX_TABLES",
    "PROGRESS_TOTAL",
    "BuildParams",
    "Builder",
    "Centroids",
    "Index",
    "MiniBatch",
    "Progress",
    "__version__",
    "empty",
    "from_bytes",
    "load",
    "round_rows",
    "simd_info",
    "train",
    "train_batches",
]

__version__: str
MAX_BITS: int
MAX_TABLES: int
PROGRESS_TOTAL: int

# Int64, or strings.
_Ids: TypeAlias = npt.NDArray[np.int64] | list[str]
_Floats: TypeAlias = npt.NDArray[np.float32]
# Centroids, labels, inertia, history, number of updates.
_Trained: TypeAlias = tuple[_Floats, npt.NDArray[np.int64], float, list[float], int]

def simd_info() -> dict[str, Any]: ...
def round_rows(block: npt.NDArray[Any], out: npt.NDArray[np.float32], first: int) -> None: ...
def train(rows: _Floats, training: Training, sample: int | None, progress: Progress | None) -> _Trained: ...
def train_batches(
    rows: _Floats,
    training: Training,
    batches: tuple[int, int | None, float],
    progress: Progress | None,
) -> tuple[MiniBatch, _Trained]: ...
def from_bytes(file: npt.NDArray[np.uint8]) -> Index: ...
def empty(dims: int, level: str, metric: str | None, seed: int, path: str | None) -> Index: ...
def load(path: str, mode: str, verify: str, ann: bool, writable: bool) -> Index: ...

@final
class BuildParams:
    def __new__(
        cls,
        level: str,
        metric: str | None,
        normalized: bool | None,
        seed: int,
        codes: bool,
        ann: bool | IVF | LSH | None,
        recall: float,
        threads: int | None,
    ) -> BuildParams: ...

@final
class Builder:
    # Whether the index will be saved within the same progress.
    def __new__(cls, params: BuildParams, rows: int, dims: int, progress: Progress | None, saved: bool) -> Builder: ...
    def push(self, block: npt.NDArray[Any], progress: Progress | None) -> None: ...
    def finish(self, ids: _Ids | None, progress: Progress | None) -> Index: ...

@final
class Progress:
    def __new__(cls, callable: ProgressCall, times: int) -> Progress: ...
    def finish(self) -> None: ...

@final
class MiniBatch:
    def __new__(cls, rows: _Floats, training: Training, least_share: float) -> MiniBatch: ...
    @property
    def centroids(self) -> _Floats: ...
    @property
    def weights(self) -> npt.NDArray[np.float64]: ...
    def step(self, rows: _Floats, threads: int | None) -> float: ...

@final
class Centroids:
    def __new__(cls, centroids: _Floats, metric: str, threads: int | None) -> Centroids: ...
    def assign(self, rows: _Floats, threads: int | None) -> npt.NDArray[np.int64]: ...
    def cost(self, rows: _Floats, threads: int | None) -> float: ...
    def distances(self, rows: _Floats, threads: int | None) -> _Floats: ...
    def scores(self, rows: _Floats, threads: int | None) -> _Floats: ...

@final
class Index:
    @property
    def dims(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def level(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def normalized(self) -> bool: ...
    @property
    # Kind, recall, nlist, spill, tables, bits, queries, whether queries were given, points of (k, nprobe, recall,
    # error, visited), rows added, rows deleted.
    def ann(
        self,
    ) -> (
        tuple[str, float, int, bool, int, int, int, bool, list[tuple[int, int, float, float, float]], int, int] | None
    ): ...
    @property
    def codes(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def path(self) -> str | None: ...
    # Ids, scores and keys, flat for all queries; and a certificate for each query: rows, bounded, refined,
    # bytes_read, kth_key, best_bound_left, exact.
    def search(
        self,
        queries: npt.NDArray[Any],
        one: bool,
        k: int,
        method: str,
        similarity: str | None,
        filter: npt.NDArray[np.bool_] | _Ids | None,
        bound: float | None,
        recall: float | None,
        effort: Effort | None,
        threads: int | None,
    ) -> tuple[
        _Ids,
        npt.NDArray[np.float32],
        npt.NDArray[np.float64],
        list[tuple[int, int, int, int, float, float, bool]],
        int,
    ]: ...
    def tune(
        self, recall: float | None, queries: npt.NDArray[Any] | None, threads: int | None, progress: Progress | None
    ) -> None: ...
    # Recall, low, high, queries, whether queries were given, visited, exact.
    def recall(
        self,
        queries: npt.NDArray[Any] | None,
        k: int,
        recall: float | None,
        effort: Effort | None,
        threads: int | None,
    ) -> tuple[float, float, float, int, bool, float, float]: ...
    # Found, key, kth_key, cells as (number, rank), nprobe.
    def explain_miss(
        self,
        query: npt.NDArray[Any],
        id: _Ids,
        k: int,
        similarity: str | None,
        recall: float | None,
        effort: Effort | None,
    ) -> tuple[bool, float, float, list[tuple[int, int]], int]: ...
    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]: ...
    def get(self, ids: _Ids) -> npt.NDArray[Any]: ...
    def contains(self, ids: _Ids) -> npt.NDArray[np.bool_]: ...
    @property
    def ids(self) -> _Ids: ...
    @property
    def writable(self) -> bool: ...
    @property
    def generation(self) -> int | None: ...
    def compact_automatically(self, ratio: float | None) -> None: ...
    # The first id, if ids are the next numbers.
    def add(self, rows: npt.NDArray[Any], ids: _Ids | None, threads: int | None) -> int | None: ...
    def upsert(self, rows: npt.NDArray[Any], ids: _Ids, threads: int | None) -> None: ...
    def delete(self, ids: _Ids) -> int: ...
    def begin(self) -> None: ...
    def end(self, commit: bool) -> None: ...
    def compact(self, threads: int | None) -> None: ...
    def refresh(self) -> bool: ...
    def to_bytes(self) -> npt.NDArray[np.uint8]: ...
    def copy(self) -> Index: ...
    def save(self, path: str, progress: Progress | None) -> None: ...
    def verify(self) -> None: ...
