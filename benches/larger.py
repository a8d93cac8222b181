"""Measure searches of a mapped index that is larger than memory: `python benches/larger.py [--data FILE.npy]`.

The program builds an index file, drops its pages from memory, and runs single queries with one thread in another
process. If it may create a cgroup (version 2, with the memory controller, writable), it limits the memory of that
process and its pages to a quarter of the bytes of the rows. Else the memory is that of the machine, and the bytes read
and kept show how much memory the queries need. Answers are compared with those of reading every row of the same file in
memory. Linux only: mincore counts the pages in memory.
"""

import argparse
import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np
import workload

PAGE = mmap.PAGESIZE
GROUPS = Path("/sys/fs/cgroup")
# From src/format/FORMAT.md: offset of the number of sections, offset of their entries, layout of an entry.
COUNT, ENTRIES = 192 + 28, 192 + 64
ENTRY = np.dtype(
    {"names": ["kind", "offset", "length"], "formats": ["<u4", "<u8", "<u8"], "offsets": [0, 8, 16], "itemsize": 64}
)
PARTS = {1: "rows", 2: "norms", 4: "codes", 10: "codes", 11: "codes", 12: "codes"}

ASK = """
import sys
group, file, folder, k = sys.argv[1:]
if group:
    open(group + '/cgroup.procs', 'w').write('0')
import json, time
import numpy as np, nseekfs
def from_disk():
    return int(next(line for line in open('/proc/self/io') if line.startswith('read_bytes')).split()[1])
queries = np.load(folder + '/queries.npy')
start = time.perf_counter()
index = nseekfs.load_index(file, verify='header')
report = {'open': time.perf_counter() - start}
for turn in ('cold', 'warm'):
    before, seconds, hits = from_disk(), [], []
    for query in queries:
        start = time.perf_counter()
        hits.append(index.query(query, top_k=int(k), threads=1))
        seconds.append(time.perf_counter() - start)
    report[turn] = {'seconds': seconds, 'read': from_disk() - before}
report['rows'] = sum(h.certificate.refined for h in hits) / len(hits)
np.savez(folder + '/found.npz', ids=np.stack([h.indices for h in hits]), keys=np.stack([h.keys for h in hits]))
print(json.dumps(report))
"""


def sections(file: Path) -> list[tuple[str, int, int]]:
    """For each section: its part, its first byte and its end."""
    with file.open("rb") as opened:
        head = opened.read(1 << 16)
    entries = np.frombuffer(head, ENTRY, int.from_bytes(head[COUNT : COUNT + 4], "little"), ENTRIES)
    kinds = (entries["kind"] & 0x7FFFFFFF).tolist()
    return [
        (PARTS[kind], int(at), int(at + size)) for kind, at, size in zip(kinds, entries["offset"], entries["length"])
    ]


def in_memory(file: Path) -> workload.Array:
    """For each page of the file, whether it is in memory."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as pages:
        held = np.zeros(-(-len(pages) // PAGE), np.uint8)
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (np.frombuffer(pages, np.uint8), held)]
        if ctypes.CDLL(None, use_errno=True).mincore(addresses[0], ctypes.c_size_t(len(pages)), addresses[1]) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
    return held & 1


def forget(file: Path) -> None:
    """Write a file to disk and drop its pages from memory."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(file).any():
        sys.exit(f"--folder: expected a folder on a disk, got {file.parent}, which keeps its files in memory")


def limited(most: int) -> Path | None:
    """A new cgroup with that memory limit, below or beside our own; None if it cannot be created."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = GROUPS / next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    for parent in (own, own.parent):
        group = parent / f"nseekfs-{os.getpid()}"
        try:
            if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                continue
            group.mkdir()
        except OSError:
            continue
        (group / "memory.max").write_text(str(most))
        return group
    return None


def ask(file: Path, folder: str, k: int, group: Path | None) -> tuple[dict[str, Any], Any]:
    """Run the queries of the folder: their times, the bytes read from disk, and their answers."""
    command = [sys.executable, "-c", ASK, str(group or ""), str(file), folder, str(k)]
    try:
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    finally:
        if group:
            group.rmdir()
    return report, np.load(Path(folder, "found.npz"))


def held(file: Path) -> dict[str, tuple[int, int]]:
    """For each part, its bytes, and those that lie in pages in memory."""
    pages = in_memory(file)
    sums = dict.fromkeys(PARTS.values(), (0, 0))
    for part, start, end in sections(file):
        size, kept = sums[part]
        sums[part] = size + end - start, kept + int(pages[start // PAGE : -(-end // PAGE)].sum()) * PAGE
    return sums


def row_pages(file: Path, rows: int) -> float:
    """Mean number of pages that a row touches."""
    start, end = next((start, end) for part, start, end in sections(file) if part == "rows")
    size = (end - start) // rows
    first = start + size * np.arange(rows)
    return float(np.mean((first + size - 1) // PAGE - first // PAGE + 1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="number of rows; 0: all rows of the files")
    parser.add_argument("--dims", type=int, default=384, help="dims of gaussian rows")
    parser.add_argument(
        "--data", nargs="+", default=[workload.GAUSSIAN], metavar="FILE.npy", help="default: gaussian rows"
    )
    parser.add_argument("--queries", metavar="FILE.npy", help="default: queries drawn like the rows")
    parser.add_argument("--jitter", type=float, default=0.03, help="noise of each value of repeated rows")
    parser.add_argument("--level", default="f32", choices=("f64", "f32", "f16"))
    parser.add_argument("--count", type=int, default=100, help="number of queries")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--index", metavar="FILE", help="search this index file for --queries, and build none")
    parser.add_argument("--folder", help="folder on a disk for the file; default: that of temporary files")
    args = parser.parse_args()
    if args.index and not args.queries:
        parser.error("--index: expected --queries with it, got none")
    return args


def prepare(args: argparse.Namespace, folder: str) -> tuple[Path, workload.Array]:
    """Build the index file, unless it is given; return its path and the queries."""
    if args.index:
        given = workload.read(args.queries)
        return Path(args.index), given[np.resize(np.arange(len(given)), args.count)]
    source = workload.Source(args.data, args.queries, args.rows, args.dims, args.jitter, 0)
    table, queries = workload.make(source, args.count)
    return Path(nseekfs.create_index(table, folder, level=args.level)), queries


def megabytes(parts: dict[str, int]) -> str:
    return f"{sum(parts.values()) / 1e6:.1f} MB ({', '.join(f'{part} {n / 1e6:.1f}' for part, n in parts.items())})"


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        file, queries = prepare(args, folder)
        np.save(Path(folder, "queries.npy"), queries)
        forget(file)
        size = {part: size for part, (size, _) in held(file).items()}
        group = limited(size["rows"] // 4)
        report, found = ask(file, folder, args.k, group)
        kept = {part: kept for part, (_, kept) in held(file).items()}
        index = nseekfs.load_index(file, mode="ram")
        bound = {**size, "rows": int(report["rows"] * args.count * row_pages(file, len(index)) * PAGE)}
        plain = index.search(queries, k=args.k, method="simd")
    same = (found["ids"] == plain.indices).all(axis=1) & (found["keys"] == plain.keys).all(axis=1)
    limit = f"a quarter of the rows, {size['rows'] / 4e6:.0f} MB, by a cgroup" if group else "that of the machine"
    print(workload.machine())
    data = args.index or " ".join(args.data)
    print(f"{index.rows} x {index.dims}, {index.level}, {data}, k={args.k}, one thread; memory: {limit}")
    print(f"the file: {megabytes(size)}")
    print(f"in memory after {args.count} queries (0 before): {megabytes(kept)}")
    print(f"pages needed (codes, norms, rows read in full): {megabytes(bound)}")
    print(f"rows read in full: {report['rows']:.1f} a query; load_index: {report['open'] * 1e3:.2f} ms")
    for turn, name in (("cold", "first pass"), ("warm", "second pass")):
        seconds, read = report[turn]["seconds"], report[turn]["read"] / 1e6 / args.count
        first, median = seconds[0] * 1e3, statistics.median(seconds) * 1e3
        print(f"{name}: median {median:.2f} ms, the first query {first:.2f} ms; {read:.2f} MB a query from disk")
    print(f"answers equal to those of reading every row: {same.sum()} of {args.count}")
    if not same.all():
        sys.exit("nseekfs differs from the plain scan")


if __name__ == "__main__":
    main()
