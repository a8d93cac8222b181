from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = ["Builder", "Index", "__version__", "load", "simd_info"]

__version__: str

def simd_info() -> dict[str, Any]: ...
def load(path: str, mode: str, verify: str) -> Index: ...

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
        threads: int | None,
    ) -> Builder: ...
    def push(self, block: npt.NDArray[Any]) -> None: ...
    def finish(self) -> Index: ...

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
    def ann(self) -> str: ...
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
        threads: int | None,
    ) -> tuple[
        npt.NDArray[np.int64],
        npt.NDArray[np.float32],
        npt.NDArray[np.float64],
        list[tuple[int, int, int, int, float, float]],
    ]: ...
    def values(self, start: int, stop: int) -> npt.NDArray[Any]: ...
    def save(self, path: str) -> None: ...
    def verify(self) -> None: ...
