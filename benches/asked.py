"""Whether approximate search gives the recall asked for: `python benches/asked.py [--data FILE.npy ...]`.

Every table gives up some rows, which ask; none of them was there when the index was built and tuned. For every
recall asked for, the table printed holds the recall had, against exact search, the cells or buckets visited, the share
of rows in them, how many answers were said to be exact, and how many of these were not.

`--queries FILE.npy` asks tables of files queries of another kind too, of which half are given to `tune` first;
`untuned` asks without. The exit status is 1 if an answer that was said to be exact is not, or if the recall had falls
short of that asked for by more than 0.01 and three standard errors (0.03 for `untuned` queries).
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


class Asked(NamedTuple):
    """A table, who asks, and who was given to `tune`."""

    name: str
    rows: Array
    queries: Array
    sample: Array | None
    slack: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="FILE", help=".npy files, taken together")
    parser.add_argument("--queries", metavar="FILE", help="a .npy file of queries of another kind")
    parser.add_argument("--rows", type=int, default=100_000, help="of tables made by rule")
    parser.add_argument("--dims", type=int, default=128, help="of tables made by rule")
    parser.add_argument("--count", type=int, default=1000, help="queries of each table")
    parser.add_argument("--ann", choices=("ivf", "lsh"), default="ivf")
    parser.add_argument("--targets", nargs="+", type=float, default=[0.8, 0.9, 0.95, 0.99])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(workload.machine())
    print(f"{options.ann}, k {options.k}, {options.count} queries\n")
    print(f"{'table':26} {'asked':>6} {'had':>7} {'error':>7} {'nprobe':>7}  rows read said exact wrongly")
    short = 0
    for asked in cases(options):
        short += ask(asked, options)
    return int(short > 0)


def cases(options: argparse.Namespace) -> Iterator[Asked]:
    """Every table with its queries."""
    random = np.random.default_rng(options.seed)
    for name in RULES:
        made = workload.unit(tables.RULES[name](random, options.rows + options.count, options.dims))
        yield Asked(name, made[options.count :], made[: options.count], None, 0.01)
    if options.data:
        base = np.concatenate([workload.read(path) for path in options.data])
        held = np.zeros(len(base), bool)
        held[random.choice(len(base), options.count, replace=False)] = True
        yield Asked("files", base[~held], base[held], None, 0.01)
        if options.queries:
            given = random.permutation(workload.read(options.queries))
            half = len(given) // 2
            yield Asked("files, untuned queries", base, given[half:], None, 0.03)
            yield Asked("files, tuned queries", base, given[half:], given[:half], 0.01)


def ask(asked: Asked, options: argparse.Namespace) -> int:
    """Print a line for each target; how many fall short."""
    index = nseekfs.from_embeddings(asked.rows, ann=options.ann, seed=options.seed)
    if asked.sample is not None:
        index.tune(queries=asked.sample)
    exact = nseekfs.from_embeddings(asked.rows).search(asked.queries, options.k).indices
    short = 0
    for target in options.targets:
        shares, said, wrongly = [], 0, 0
        for query, best in zip(asked.queries, exact, strict=True):
            hits = index.query(query, options.k, recall=target)
            shares.append(len(np.intersect1d(hits.indices, best)) / options.k)
            said += hits.certificate.exact
            wrongly += hits.certificate.exact and hits.indices.tolist() != best.tolist()
        had, error = float(np.mean(shares)), float(np.std(shares) / np.sqrt(len(shares)))
        visited = index.recall(asked.queries, options.k, recall=target).visited
        print(
            f"{asked.name:26} {target:6.2f} {had:7.4f} {error:7.4f} {nprobe(index, target, options.k):>7} "
            f"{visited:9.2%} {said:10} {wrongly:7}",
            flush=True,
        )
        short += wrongly > 0 or had < target - asked.slack - 3 * error
    return short


def nprobe(index: nseekfs.Index, target: float, k: int) -> str:
    """How many cells or buckets are visited; all, where the search is exact."""
    told = index.explain_miss(index[0], 0, k=k, recall=target).nprobe
    return str(told) if told else "exact"


if __name__ == "__main__":
    sys.exit(main())
