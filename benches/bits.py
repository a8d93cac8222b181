"""Level b1 beside faiss IndexBinaryFlat and usearch: times divided by ours, in one process, and by a sum of the bytes.

Every round times each engine once, in an order that rotates from round to round; ratios compare times of the same
round. Distances are checked before timing. The sum, numpy's of the same bytes as uint64, shows what memory gives to one
thread. Faiss and usearch take part where they can be imported.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import nseekfs
import numpy as np
from large_k import measure

Array = np.ndarray[Any, Any]
Search = Callable[[Array, int], Array]
"""The distances that a search finds."""


def peers(rows: Array, threads: int) -> dict[str, Search]:
    found: dict[str, Search] = {}
    try:
        import faiss
    except ImportError:
        print("faiss: not installed")
    else:
        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexBinaryFlat(8 * rows.shape[1])
        flat.add(rows)
        found["faiss"] = lambda queries, k: np.asarray(flat.search(queries, k)[0])
    try:
        from usearch.index import MetricKind, search
    except ImportError:
        print("usearch: not installed")
    else:
        kind = MetricKind.Hamming

        def usearch(queries: Array, k: int) -> Array:
            matches = search(rows, queries, k, kind, exact=True, threads=threads)
            return np.asarray(matches.distances).reshape(len(queries), k)

        found["usearch"] = usearch
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"nseekfs {nseekfs.__version__}, {nseekfs.simd_info()['used']} kernel, {args.rows} rows, k = {args.k}")
    for bits in args.bits:
        random = np.random.default_rng(args.seed)
        rows = random.integers(0, 256, (args.rows, bits // 8), dtype=np.uint8)
        index = nseekfs.from_embeddings(rows, level="b1")
        for threads in args.threads:
            for count in args.queries:
                queries = random.integers(0, 256, (count, bits // 8), dtype=np.uint8)
                engines: dict[str, Search] = {"nseekfs": partial(distances, index, threads), **peers(rows, threads)}
                want = engines["nseekfs"](queries, args.k)
                for name, engine in engines.items():
                    assert np.array_equal(engine(queries, args.k), want), name
                calls: dict[str, Callable[[], Any]] = {
                    name: partial(engine, queries, args.k) for name, engine in engines.items()
                }
                if count == 1:
                    calls["sum"] = rows.view(np.uint64).sum
                print(f"{bits} bits, {threads} threads, {count} queries: {measure(calls, 'nseekfs', args.rounds)}")


def distances(index: nseekfs.Index, threads: int, queries: Array, k: int) -> Array:
    return index.search(queries, k, threads=threads).keys


if __name__ == "__main__":
    main()
