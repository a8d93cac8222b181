"""Recall against speed for ``python -m nseekfs tune``: measurement, table and plot."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from nseekfs._arguments import printable
from nseekfs._errors import Error, InputError
from nseekfs.ann import Recall
from nseekfs.index import Index

TARGETS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Target recalls that are measured; 1 is exact search."""
TIMED = 200
"""Number of single queries that are timed; the speed is the reciprocal of the median time."""
PATIENCE = 2.0
"""Seconds after which no more queries of a target are timed, once `LEAST` have been."""
LEAST = 5
"""Number of queries of a target that are always timed."""


class Line(NamedTuple):
    """The measurement of one target recall; `seconds` is the median time of a query."""

    target: float
    measured: Recall
    seconds: float


def measure(index: Index, queries: npt.NDArray[Any] | None, k: int) -> Iterator[Line]:
    """Recall and median time of a query on one thread, one target recall after the other."""
    if queries is None:
        rng = np.random.default_rng(index.seed)
        timed = index[rng.choice(len(index), min(TIMED, len(index)), replace=False)]
    else:
        timed = queries[:TIMED]
    for number, target in enumerate(TARGETS, start=1):
        print(f"nseekfs: measuring recall {target:g}, {number} of {len(TARGETS)}", file=sys.stderr, flush=True)
        spent: list[float] = []
        for query in timed:
            if len(spent) >= LEAST and sum(spent) > PATIENCE:
                break
            start = time.perf_counter()
            index.query(query, k, recall=target, threads=1)
            spent.append(time.perf_counter() - start)
        yield Line(target, index.recall(queries, k, recall=target), float(np.median(spent)))


def show(index: Index, lines: Iterable[Line], k: int) -> list[Line]:
    """Print the table of target, measured recall, rows visited, proven answers and queries a second, line by line."""
    print(f"{index.ann}; k {k}, one thread")
    print("target  recall (95% confidence)     rows visited  proven exact   queries/s", flush=True)
    shown = []
    for line in lines:
        found = line.measured
        print(
            f"{line.target:6.2f}  {found.recall:.4f} ({found.low:.4f}..{found.high:.4f})  "
            f"{found.visited:12.2%}  {found.exact:12.1%}  {1 / line.seconds:10.0f}",
            flush=True,
        )
        shown.append(line)
    return shown


def plot(lines: list[Line], path: str) -> None:
    """Draw recall against queries per second; the extension of the file chooses its format.

    Raises
    ------
    Error
        If matplotlib is not installed.
    InputError
        If the extension is not that of an image format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Error("plot: expected matplotlib, which is not installed: pip install nseekfs[plot]") from None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([line.measured.recall for line in lines], [1 / line.seconds for line in lines], marker="o")
    axes.set(xlabel="recall", ylabel="queries per second, one thread", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise InputError(f"plot: expected the name of an image, got {printable(path)}: {error}") from None


def read_queries(path: str, dims: int) -> npt.NDArray[Any]:
    """The queries of a .npy file, shape (q, dims); `InputError` if the file holds no such array."""
    try:
        queries: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"queries: expected a .npy file of numbers, got {printable(path)}: {error}") from None
    if not isinstance(queries, np.ndarray):
        raise InputError(f"queries: expected a .npy file of numbers, got an archive: {printable(path)}")
    if queries.ndim != 2 or queries.shape[1] != dims or len(queries) == 0:
        raise InputError(f"queries: expected shape (q, {dims}), got {queries.shape} in {printable(path)}")
    return queries
