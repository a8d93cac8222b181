"""Batches with a large k and tables of few dims: times divided by those of numpy and faiss, in one process.

Numpy multiplies, selects by argpartition and sorts. Every round times each engine once, in an order that rotates from
round to round; ratios compare times of the same round. Answers are checked before timing. Faiss takes part where it can
be imported.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import nseekfs
import numpy as np

try:
    import faiss
except ImportError:
    faiss = None

Array = np.ndarray[Any, Any]
Engines = dict[str, Callable[[], Any]]

BATCHES = {
    "384 dims": (94_693, 384, (10, 100, 300, 1000, 5000, 10_000, 94_693)),
    "4096 dims": (20_000, 4096, (1000,)),
    "equal rows": (94_693, 384, (10,)),
    "few distinct rows": (94_693, 384, (10,)),
}
Metric = Literal["cosine", "dot", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "dot", "euclidean")
SINGLES = (
    (500_000, 1),
    (1_000_000, 2),
    (500_000, 3),
    (500_000, 8),
    (500_000, 16),
    (300_000, 31),
    (300_000, 33),
    (300_000, 48),
)


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


def read(files: list[str], count: int) -> Array:
    """Rows of the files in a random order, as float32."""
    rows = np.concatenate([np.load(file) for file in files])
    return rows[np.random.default_rng(0).permutation(len(rows))[:count]].astype("f4")


def one_by_one(index: nseekfs.Index, queries: Array, k: int, threads: int | None) -> None:
    for query in queries:
        index.search(query, k, threads=threads)


def measure(engines: Engines, rounds: int, threads: int | None) -> dict[str, Array]:
    """Seconds of every engine in every round: of CPU time on one thread, whatever else is running."""
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    names = list(engines)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            engines[name]()
            seconds[name].append(clock() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def in_words(seconds: dict[str, Array], ratios: dict[str, Array]) -> str:
    """Median milliseconds of every engine, and the medians of ratios with quartiles."""
    text = ", ".join(f"{name} {np.median(times) * 1e3:.2f} ms" for name, times in seconds.items())
    for name, ratio in ratios.items():
        low, middle, high = np.percentile(ratio, (25, 50, 75))
        text += f"; {name} {middle:.2f} ({low:.2f}..{high:.2f})"
    return text


def batches(args: argparse.Namespace) -> None:
    """All queries at once and one by one."""
    random = np.random.default_rng(args.seed)
    tables = {"FILE": (150_000, 384, (10, 100, 1000, 5000, 10_000))} if args.data else BATCHES
    for kind, (count, dims, ks) in tables.items():
        rows = read(args.data, count) if args.data else unit(random, count, dims)
        if kind == "equal rows":
            rows[:] = rows[0]
        if kind == "few distinct rows":
            rows = rows[random.integers(20, size=count)]
        if args.data:
            rows, queries = rows[args.queries :], rows[: args.queries].copy()
        else:
            queries = unit(random, args.queries, dims)
        index = nseekfs.from_embeddings(rows, metric="dot")
        for k in args.k or ks:
            scores = index.search(queries, k).scores
            np.testing.assert_allclose(scores, numpy_best(rows, queries, k)[1], atol=1e-4)
            engines: Engines = {
                "numpy": partial(numpy_best, rows, queries, k),
                "batch": partial(index.search, queries, k, threads=args.threads),
                "one by one": partial(one_by_one, index, queries, k, args.threads),
            }
            if faiss is not None:
                if args.threads:
                    faiss.omp_set_num_threads(args.threads)
                flat = faiss.IndexFlatIP(rows.shape[1])
                flat.add(rows)
                engines["faiss"] = partial(flat.search, queries, k)
            if args.skip_single:
                del engines["one by one"]
            seconds = measure(engines, args.rounds, args.threads)
            ratios = {f"{name} / numpy": times / seconds["numpy"] for name, times in seconds.items() if name != "numpy"}
            print(f"{kind}, {len(queries)} queries, k={k}: {in_words(seconds, ratios)}", flush=True)


class Few(NamedTuple):
    """A table of few dims and a query, of length 1 for cosine."""

    rows: Array
    query: Array
    squares: Array
    metric: Metric

    def numpy(self, k: int) -> tuple[Array, Array]:
        """The best k rows by a float32 product, best first; euclidean by lengths known before."""
        scores = self.rows @ self.query
        if self.metric == "euclidean":
            scores = 2 * scores - self.squares
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        order = np.argsort(-scores[best])
        return best[order], scores[best][order]


def few(random: np.random.Generator, rows: int, dims: int, metric: Metric) -> Few:
    values, query = random.standard_normal((rows, dims), dtype="f4"), random.standard_normal(dims, dtype="f4")
    if metric == "cosine":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        query /= np.linalg.norm(query)
    return Few(values, query, np.einsum("ij,ij->i", values, values), metric)


def check(found: nseekfs.SearchResult, table: Few) -> None:
    """Compare scores with those of all rows in float64."""
    rows, query = table.rows.astype("f8"), table.query.astype("f8")
    if table.metric == "euclidean":
        best = np.sort(np.sqrt(((rows - query) ** 2).sum(axis=1)))
    else:
        best = np.sort(-(rows @ query))
    got = found.scores if table.metric == "euclidean" else -found.scores
    np.testing.assert_allclose(got, best[: got.size], rtol=1e-6)


def few_dims(args: argparse.Namespace) -> None:
    """One query on one thread, beside the faster of the others in each round."""
    random = np.random.default_rng(args.seed)
    for count, dims in SINGLES:
        for metric in METRICS:
            table = few(random, count, dims, metric)
            index = nseekfs.from_embeddings(table.rows, metric=metric)
            check(index.search(table.query, 10), table)
            engines: Engines = {
                "nseekfs": partial(index.search, table.query, 10, threads=args.threads),
                "numpy": partial(table.numpy, 10),
            }
            if faiss is not None:
                faiss.omp_set_num_threads(args.threads)
                flat = faiss.IndexFlatL2(dims) if metric == "euclidean" else faiss.IndexFlatIP(dims)
                flat.add(table.rows)
                engines["faiss"] = partial(flat.search, table.query[None], 10)
            seconds = measure(engines, 5 * args.rounds, args.threads)
            fastest = np.min([times for name, times in seconds.items() if name != "nseekfs"], axis=0)
            ratio = {"nseekfs / fastest": seconds["nseekfs"] / fastest}
            print(f"{count} x {dims}, {metric}: {in_words(seconds, ratio)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("batches", "few-dims"))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, nargs="*", help="in place of those of each table")
    parser.add_argument("--threads", type=int, help="default: all, for few dims 1; CPU time is measured where it is 1")
    parser.add_argument("--data", nargs="+", metavar="FILE.npy", help="rows of batches, up to 150,000 of them")
    parser.add_argument("--skip-single", action="store_true", help="do not ask one by one")
    args = parser.parse_args()
    if args.part == "few-dims" and args.threads is None:
        args.threads = 1
    if args.threads and os.environ.get("OPENBLAS_NUM_THREADS") != str(args.threads):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(args.threads)}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    if args.part == "batches":
        batches(args)
    else:
        few_dims(args)


if __name__ == "__main__":
    main()
