"""Measure the time and size of codes, and the reads of searches: `python benches/coding.py [--data FILE.npy]`.

The encoding time is the time of a build with codes minus that of a build without. It is compared with numpy's product
of the rows with a square matrix, on the same number of threads, in alternating order. A second table holds the mean
bytes read and rows refined of single queries, for a random fifth of the rows and for all rows.

`--shapes 30000x2048 20000x3072` times builds of tables of these rows and dims instead, on values whose standard
deviation falls as a power of the dim, beside numpy's singular values of the sample that axes are learnt from.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nseekfs
import numpy as np
import workload

# Of the sample that codes learn from, see src/build/coding.rs.
SAMPLE_VALUES = 8 << 20
SAMPLE_ROWS = 16_384


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="number of rows; 0: all rows of the files")
    parser.add_argument("--dims", type=int, default=384, help="dims of gaussian rows")
    parser.add_argument("--data", nargs="+", default=[workload.GAUSSIAN], metavar="FILE.npy")
    parser.add_argument("--queries", metavar="FILE.npy", help="default: queries drawn like the rows")
    parser.add_argument("--jitter", type=float, default=0.03, help="noise of each value of repeated rows")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="number of threads; set it to that of numpy"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100, help="number of queries")
    parser.add_argument("--shapes", nargs="+", metavar="ROWSxDIMS", help="time builds of such tables only")
    return parser.parse_args()


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def build(rows: int, dims: int, threads: int) -> list[float]:
    """Seconds without codes, with codes, of all CPUs for that, of numpy's singular values, of all CPUs for that."""
    spread = np.arange(1, dims + 1, dtype=np.float32) ** np.float32(-0.5)
    table = workload.unit(workload.gaussian(np.random.default_rng(0), rows, dims) * spread)
    count = min(SAMPLE_VALUES // dims, SAMPLE_ROWS, rows)
    sample = table[np.arange(count) * rows // count]
    plain = seconds(lambda: nseekfs.from_embeddings(table, codes=False, threads=threads))
    before = time.process_time()
    coded = seconds(lambda: nseekfs.from_embeddings(table, threads=threads))
    between = time.process_time()
    svd = seconds(lambda: np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False))
    return [plain, coded, between - before, svd, time.process_time() - between]


def growth(args: argparse.Namespace) -> None:
    """Prints what encoding takes, how large files are, and what queries read of a part and of all rows."""
    source = workload.Source(args.data, args.queries, args.rows, args.dims, args.jitter, seed=0)
    table, queries = workload.make(source, args.count)
    print(workload.machine())
    print(f"{table.shape[0]} x {table.shape[1]} float32, {' '.join(args.data)}, threads: {args.threads}\n")
    square = np.random.default_rng(1).standard_normal((table.shape[1], table.shape[1]), dtype=np.float32)
    ratios = []
    for _ in range(args.rounds):
        product = seconds(lambda: table @ square)
        plain = seconds(lambda: nseekfs.from_embeddings(table, codes=False, threads=args.threads))
        coded = seconds(lambda: nseekfs.from_embeddings(table, threads=args.threads))
        ratios.append((coded - plain) / product)
        print(f"encoding {coded - plain:.2f} s, product {product:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"median ratio {np.median(ratios):.2f}\n")

    with tempfile.TemporaryDirectory() as folder:
        for level in ("f32", "f16", "f8"):
            path = nseekfs.create_index(table, folder, level=level)
            print(f"{level}: file size / size of float32 rows: {Path(path).stat().st_size / table.nbytes:.3f}")
            Path(path).unlink()

    order = np.random.default_rng(2).permutation(len(table))
    print("\n| rows | k | bytes read a row | rows refined |\n| --- | --- | --- | --- |")
    for rows in (len(table) // 5, len(table)):
        index = nseekfs.from_embeddings(table[order[:rows]])
        for k in (10, 100):
            told = [index.query(query, k, threads=1).certificate for query in queries]
            read = np.mean([each.bytes_read / each.rows for each in told])
            print(f"| {rows} | {k} | {read:.1f} | {np.mean([each.refined for each in told]):.1f} |")


def main() -> None:
    args = parse()
    if args.shapes:
        print(f"{workload.machine()}, threads: {args.threads}\n")
        print("| table | without codes | with codes | its CPU time | svd of the sample | its CPU time |")
        print("| --- | --- | --- | --- | --- | --- |")
        for shape in args.shapes:
            rows, dims = map(int, shape.split("x"))
            print(f"| {shape} | {' | '.join(f'{each:.2f}' for each in build(rows, dims, args.threads))} |", flush=True)
    else:
        growth(args)


if __name__ == "__main__":
    main()
