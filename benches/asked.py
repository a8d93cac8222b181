"""Compare the recall of approximate search with the target recall: `python benches/asked.py [--data FILE.npy ...]`.

The queries are rows that are removed from each table before the index is built and tuned. For every target recall, a
line holds the measured recall against exact search, its standard error, the number of cells or buckets visited, the
share of rows in them, the number of answers with a proof of exactness, and the number of these that are wrong.

With `--queries FILE.npy`, the rows of `--data` are also searched for queries of another kind: once with half of the
queries given to `tune` ("tuned"), once without ("untuned"). The exit status is 1 if an answer with a proof is wrong, or
if a recall is below its target by more than 0.01 and three standard errors (0.03 for untuned queries).
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import nseekfs
import numpy as np
import tables
import workload

Array = np.ndarray[Any, Any]
RULES = ("gaussian", "power_law", "common", "duplicates", "crowds")


class Case(NamedTuple):
    """A table, its queries, the sample for `tune`, and the allowed shortfall of the recall."""

    name: str
    rows: Array
    queries: Array
    sample: Array | None
    slack: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="FILE", help=".npy files, concatenated")
    parser.add_argument("--queries", metavar="FILE", help="a .npy file of queries of another kind")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of generated tables")
    parser.add_argument("--dims", type=int, default=128, help="dims of generated tables")
    parser.add_argument("--count", type=int, default=1000, help="number of queries of each table")
    parser.add_argument("--ann", choices=("ivf", "lsh"), default="ivf")
    parser.add_argument("--targets", nargs="+", type=float, default=[0.8, 0.9, 0.95, 0.99])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(workload.machine())
    print(f"{options.ann}, k {options.k}, {options.count} queries\n")
    print(f"{'table':26} {'target':>6} {'recall':>7} {'error':>7} {'nprobe':>7}   visited     proven   wrong")
    short = 0
    for case in cases(options):
        short += measure(case, options)
    return int(short > 0)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every table with its queries."""
    random = np.random.default_rng(options.seed)
    for name in RULES:
        made = workload.unit(tables.RULES[name](random, options.rows + options.count, options.dims))
        yield Case(name, made[options.count :], made[: options.count], None, 0.01)
    if options.data:
        base = np.concatenate([workload.read(path) for path in options.data])
        held = np.zeros(len(base), bool)
        held[random.choice(len(base), options.count, replace=False)] = True
        yield Case("files", base[~held], base[held], None, 0.01)
        if options.queries:
            given = random.permutation(workload.read(options.queries))
            half = len(given) // 2
            yield Case("files, untuned queries", base, given[half:], None, 0.03)
            yield Case("files, tuned queries", base, given[half:], given[:half], 0.01)


def measure(case: Case, options: argparse.Namespace) -> int:
    """Print a line for each target; return the number of targets that are missed."""
    index = nseekfs.from_embeddings(case.rows, ann=options.ann, seed=options.seed)
    if case.sample is not None:
        index.tune(queries=case.sample)
    exact = nseekfs.from_embeddings(case.rows).search(case.queries, options.k).indices
    short = 0
    for target in options.targets:
        shares, proven, wrong = [], 0, 0
        for query, best in zip(case.queries, exact, strict=True):
            hits = index.query(query, options.k, recall=target)
            shares.append(len(np.intersect1d(hits.indices, best)) / options.k)
            proven += hits.certificate.exact
            wrong += hits.certificate.exact and hits.indices.tolist() != best.tolist()
        recall, error = float(np.mean(shares)), float(np.std(shares) / np.sqrt(len(shares)))
        visited = index.recall(case.queries, options.k, recall=target).visited
        print(
            f"{case.name:26} {target:6.2f} {recall:7.4f} {error:7.4f} {nprobe(index, target, options.k):>7} "
            f"{visited:9.2%} {proven:10} {wrong:7}",
            flush=True,
        )
        short += wrong > 0 or recall < target - case.slack - 3 * error
    return short


def nprobe(index: nseekfs.Index, target: float, k: int) -> str:
    """The number of cells or buckets visited, or ``exact``."""
    told = index.explain_miss(index[0], 0, k=k, recall=target).nprobe
    return str(told) if told else "exact"


if __name__ == "__main__":
    sys.exit(main())
