"""Batches with a large k and tables of few dims: times divided by those of numpy and faiss, in one process.

Numpy multiplies, selects by argpartition and sorts. Every round times each engine once, in an order that rotates from
round to round; ratios compare times of the same round. Answers are checked against numpy's before timing. Faiss takes
part where it can be imported.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import nseekfs
import numpy as np

Array = np.ndarray[Any, Any]
Engines = dict[str, Callable[[], Any]]

BATCHES = {
    "384 dims": (94_693, 384, (10, 100, 300, 1000, 5000, 10_000, 94_693)),
    "4096 dims": (20_000, 4096, (1000,)),
    "equal rows": (94_693, 384, (10,)),
    "few distinct rows": (94_693, 384, (10,)),
}
METRICS: tuple[Literal["dot"], Literal["euclidean"]] = ("dot", "euclidean")
SINGLES = ((500_000, 1), (1_000_000, 2), (500_000, 3), (500_000, 8), (500_000, 16), (300_000, 31), (300_000, 33))


def numpy_best(rows: Array, queries: Array, k: int) -> tuple[Array, Array]:
    """The best k rows of every query by float32 products, best first."""
    scores = queries @ rows.T
    best = np.argpartition(scores, len(rows) - k, axis=1)[:, len(rows) - k :]
    kept = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-kept, axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(kept, order, axis=1)


def unit(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Unit rows whose variance falls from axis to axis."""
    values = random.standard_normal((rows, dims), dtype="f4") / np.arange(1, dims + 1, dtype="f4") ** 0.35
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype="f4")


def one_by_one(index: nseekfs.Index, queries: Array, k: int) -> None:
    for query in queries:
        index.search(query, k)


def measure(engines: Engines, base: str, rounds: int) -> str:
    """Median time of the base, and the median and quartiles of each engine's ratio to it."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    names = list(engines)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            engines[name]()
            seconds[name].append(time.perf_counter() - start)
    text = f"{base} {np.median(seconds[base]) * 1e3:.1f} ms"
    for name in (name for name in names if name != base):
        low, middle, high = np.percentile(np.array(seconds[name]) / np.array(seconds[base]), (25, 50, 75))
        text += f"; {name} x {middle:.2f} ({low:.2f}..{high:.2f})"
    return text


def batches(args: argparse.Namespace) -> None:
    """All queries at once and one by one."""
    random = np.random.default_rng(args.seed)
    for kind, (count, dims, ks) in BATCHES.items():
        rows = unit(random, count, dims)
        if kind == "equal rows":
            rows[:] = rows[0]
        if kind == "few distinct rows":
            rows = rows[random.integers(20, size=count)]
        queries = unit(random, args.queries, dims)
        index = nseekfs.from_embeddings(rows, metric="dot")
        for k in args.k or ks:
            scores = index.search(queries, k).scores
            np.testing.assert_allclose(scores, numpy_best(rows, queries, k)[1], atol=1e-4)
            engines: Engines = {
                "numpy": partial(numpy_best, rows, queries, k),
                "batch": partial(index.search, queries, k),
                "one by one": partial(one_by_one, index, queries, k),
            }
            if args.skip_single:
                del engines["one by one"]
            print(f"{kind}, {len(queries)} queries, k={k}: {measure(engines, 'numpy', args.rounds)}", flush=True)


def few_dims(args: argparse.Namespace) -> None:
    """One query on one thread."""
    try:
        import faiss
    except ImportError:
        faiss = None
    random = np.random.default_rng(args.seed)
    for count, dims in SINGLES:
        rows = random.standard_normal((count, dims), dtype="f4")
        query = random.standard_normal((1, dims), dtype="f4")
        for metric in METRICS:
            index = nseekfs.from_embeddings(rows, metric=metric)
            engines: Engines = {"nseekfs": partial(index.search, query, 10, threads=1)}
            if metric == "dot":
                engines["numpy"] = partial(numpy_best, rows, query, 10)
            if faiss is not None:
                faiss.omp_set_num_threads(1)
                flat = faiss.IndexFlatIP(dims) if metric == "dot" else faiss.IndexFlatL2(dims)
                flat.add(rows)
                engines["faiss"] = partial(flat.search, query, 10)
            if len(engines) > 1:
                print(f"{count} x {dims}, {metric}: {measure(engines, 'nseekfs', 3 * args.rounds)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("batches", "few-dims"))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, nargs="*", help="in place of those of each table")
    parser.add_argument("--skip-single", action="store_true", help="do not ask one by one")
    args = parser.parse_args()
    if args.part == "batches":
        batches(args)
    else:
        few_dims(args)


if __name__ == "__main__":
    main()
