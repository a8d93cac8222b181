"""Readers beside a writer of one file: latencies with and without it, and whether every answer is of one generation.

Each commit adds rows at the end and deletes as many at the start, so the ids of a whole generation follow one another.
A reader refreshes before each query and checks that they do, and that the keys it gets are the products of the query
with the rows that `get` returns.

    python benches/readers.py --seconds 600
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np

Times = dict[str, list[float]]


def read(path: str, seconds: float, seed: int, out: Any) -> None:
    """One reader: refreshes, queries and checks; the times in milliseconds."""
    reader, random = nseekfs.load_index(path), np.random.default_rng(seed)
    times: Times = {"query": [], "refresh": [], "refresh, newer": []}
    wrong, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        newer = reader.refresh()
        middle = time.perf_counter()
        query = random.standard_normal(reader.dims).astype(np.float32)
        before = time.perf_counter()
        hits = reader.query(query, 10, threads=1)
        times["query"].append(1000 * (time.perf_counter() - before))
        times["refresh, newer" if newer else "refresh"].append(1000 * (middle - start))
        keys = reader.get(hits.indices).astype(np.float64) @ query.astype(np.float64)
        # Ids of a commit follow one another: a half of one would leave a gap, or another number of rows.
        ids = reader.ids
        whole = len(ids) == len(reader) and bool((np.diff(ids) == 1).all())
        wrong += not (whole and np.allclose(keys, hits.keys, rtol=1e-9, atol=1e-12))
    out.put((times, wrong))


def write(path: str, seconds: float, out: Any) -> None:
    """The writer at its full rate: each commit adds rows at the end and deletes as many at the start."""
    index, random = nseekfs.load_index(path, writable=True), np.random.default_rng(7)
    first, commits, end = int(index.ids[0]), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        count = int(random.integers(1, 50))
        with index.batch():
            index.add(random.standard_normal((count, index.dims), dtype=np.float32))
            index.delete(np.arange(first, first + count))
        first, commits = first + count, commits + 1
    out.put(commits)


def run(path: str, seconds: float, writer: bool) -> tuple[Times, int, int]:
    """Two readers, and perhaps a writer: all times, wrong answers, commits."""
    context = multiprocessing.get_context("spawn")
    out, told = context.Queue(), context.Queue()
    readers = [context.Process(target=read, args=(path, seconds, seed, out)) for seed in (1, 2)]
    writers = [context.Process(target=write, args=(path, seconds, told))] if writer else []
    for process in readers + writers:
        process.start()
    times: Times = {"query": [], "refresh": [], "refresh, newer": []}
    wrong = 0
    for _ in readers:
        found, failures = out.get()
        wrong += failures
        for name in times:
            times[name] += found[name]
    commits = told.get() if writer else 0
    for process in readers + writers:
        process.join()
    return times, wrong, commits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="with the writer; a tenth of it without")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = np.random.default_rng(0).standard_normal((options.rows, options.dims), dtype=np.float32)
        path = nseekfs.create_index(rows, Path(folder), base_name="live", metric="dot")
        for writer in (False, True):
            times, wrong, commits = run(path, options.seconds if writer else options.seconds / 10, writer)
            what = "beside a writer" if writer else "alone"
            print(f"{what}: {len(times['query'])} queries, {wrong} wrong, {commits} commits")
            for name, each in times.items():
                if each:
                    p50, p99 = np.percentile(each, [50, 99])
                    print(f"  {name:16} {len(each):8}  p50 {p50:8.3f} ms  p99 {p99:8.3f} ms")
        print(f"file {os.path.getsize(path) / 1e6:.0f} MB for {options.rows} rows")


if __name__ == "__main__":
    main()
