from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Builder",
    "Cells",
    "Index",
    "MiniBatch",
    "__version__",
    "load",
    "round_rows",
    "simd_info",
    "train",
    "train_batches",
]

__version__: str

def simd_info() -> dict[str, Any]: ...
def round_rows(block: npt.NDArray[Any], out: npt.NDArray[np.float32], first: int) -> None: ...
def train(
    rows: npt.NDArray[np.float32],
    cells: int,
    metric: str,
    iterations: int,
    tolerance: float,
    init: str | npt.NDArray[np.float32],
    sample: int | None,
    seed: int,
    threads: int | None,
    progress: Callable[[int, int], object] | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], float, npt.NDArray[np.float64], int]: ...
def train_batches(
    rows: npt.NDArray[np.float32],
    cells: int,
    metric: str,
    iterations: int,
    tolerance: float,
    init: str | npt.NDArray[np.float32],
    batch: int,
    patience: int | None,
    least_share: float,
    seed: int,
    threads: int | None,
    progress: Callable[[int, int], object] | None,
) -> tuple[MiniBatch, tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], float, npt.NDArray[np.float64], int]]: ...
def load(path: str, mode: str, verify: str, ann: bool) -> Index: ...

@final
class Builder:
    def __new__(
        cls,
        level: str,
        metric: str,
        rows: int,
        dims: int,
        normalized: bool | None,
        seed: int,
        codes: bool,
        ann: tuple[str | None, float, int | None, bool, int | None, int | None] | None,
        threads: int | None,
    ) -> Builder: ...
    def push(self, block: npt.NDArray[Any]) -> None: ...
    def finish(self) -> Index: ...

@final
class MiniBatch:
    def __new__(
        cls,
        rows: npt.NDArray[np.float32],
        cells: int,
        metric: str,
        init: str | npt.NDArray[np.float32],
        least_share: float,
        seed: int,
        threads: int | None,
    ) -> MiniBatch: ...
    @property
    def centroids(self) -> npt.NDArray[np.float32]: ...
    @property
    def weights(self) -> npt.NDArray[np.float64]: ...
    def step(self, rows: npt.NDArray[np.float32], threads: int | None) -> float: ...

@final
class Cells:
    def __new__(cls, centroids: npt.NDArray[np.float32], metric: str, threads: int | None) -> Cells: ...
    def assign(self, rows: npt.NDArray[np.float32], threads: int | None) -> npt.NDArray[np.int64]: ...
    def scores(self, rows: npt.NDArray[np.float32], threads: int | None) -> npt.NDArray[np.float32]: ...

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
    def ann(
        self,
    ) -> tuple[str, int, int, float, int, bool, list[tuple[int, int, float, float, float]]] | None: ...
    @property
    def codes(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def path(self) -> str | None: ...
    def search(
        self,
        queries: npt.NDArray[Any],
        k: int,
        method: str,
        similarity: str | None,
        filter: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | None,
        bound: float | None,
        effort: tuple[float | None, int | None, int | None, float | None, int | None],
        threads: int | None,
    ) -> tuple[
        npt.NDArray[np.int64],
        npt.NDArray[np.float32],
        npt.NDArray[np.float64],
        list[tuple[int, int, int, int, float, float, bool]],
    ]: ...
    def tune(self, recall: float | None, queries: npt.NDArray[Any] | None, threads: int | None) -> None: ...
    def recall(
        self,
        queries: npt.NDArray[Any] | None,
        k: int,
        effort: tuple[float | None, int | None, int | None, float | None, int | None],
        threads: int | None,
    ) -> tuple[float, float, float, int, float, float]: ...
    def explain_miss(
        self,
        query: npt.NDArray[Any],
        row: int,
        k: int,
        similarity: str | None,
        effort: tuple[float | None, int | None, int | None, float | None, int | None],
    ) -> tuple[float, float, list[tuple[int, int]], int, bool]: ...
    def values(self, start: int, stop: int) -> npt.NDArray[Any]: ...
    def save(self, path: str) -> None: ...
    def verify(self) -> None: ...
