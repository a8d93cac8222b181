"""A mapped index with too little memory for its rows: `python benches/larger.py [--data FILE.npy]`.

Builds an index file, has the system forget its pages, and asks single queries with one thread in a process of
its own. Where a cgroup with a limit can be made (version 2, the memory controller on, writable), memory for
that process and its pages is a quarter of the bytes of the rows; elsewhere it is that of the machine, and what
is read and kept tells what would be needed. Answers are compared with those of reading every row of the
same file in memory. Linux only: it counts the pages that memory holds with mincore.
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
# Of src/format/FORMAT.md: where the number of sections stands, where their entries begin, what an entry holds.
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
    """What each section holds, where it starts and ends."""
    with file.open("rb") as opened:
        head = opened.read(1 << 16)
    entries = np.frombuffer(head, ENTRY, int.from_bytes(head[COUNT : COUNT + 4], "little"), ENTRIES)
    kinds = (entries["kind"] & 0x7FFFFFFF).tolist()
    return [
        (PARTS[kind], int(at), int(at + size)) for kind, at, size in zip(kinds, entries["offset"], entries["length"])
    ]


def in_memory(file: Path) -> workload.Array:
    """Whether memory holds each page of the file."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as pages:
        held = np.zeros(-(-len(pages) // PAGE), np.uint8)
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (np.frombuffer(pages, np.uint8), held)]
        if ctypes.CDLL(None, use_errno=True).mincore(addresses[0], ctypes.c_size_t(len(pages)), addresses[1]) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
    return held & 1


def forget(file: Path) -> None:
    """Has the system forget the pages of a file that is safe on disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(file).any():
        sys.exit(f"{file.parent} keeps its files in memory: name a folder on a disk with --folder")


def limited(most: int) -> Path | None:
    """A new cgroup with that much memory, beside or below our own; none where we may not make one."""
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
    """Times of the queries in the folder, what they read from disk, their answers."""
    command = [sys.executable, "-c", ASK, str(group or ""), str(file), folder, str(k)]
    try:
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    finally:
        if group:
            group.rmdir()
    return report, np.load(Path(folder, "found.npz"))


def held(file: Path) -> dict[str, tuple[int, int]]:
    """Bytes of each part, and how many of them lie in pages that memory holds."""
    pages = in_memory(file)
    sums = dict.fromkeys(PARTS.values(), (0, 0))
    for part, start, end in sections(file):
        size, kept = sums[part]
        sums[part] = size + end - start, kept + int(pages[start // PAGE : -(-end // PAGE)].sum()) * PAGE
    return sums


def row_pages(file: Path, rows: int) -> float:
    """Pages that a row touches, in the mean."""
    start, end = next((start, end) for part, start, end in sections(file) if part == "rows")
    size = (end - start) // rows
    first = start + size * np.arange(rows)
    return float(np.mean((first + size - 1) // PAGE - first // PAGE + 1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="0 takes the rows of the files")
    parser.add_argument("--dims", type=int, default=384, help="of gaussian data; files have their own")
    parser.add_argument(
        "--data", nargs="+", default=[workload.GAUSSIAN], metavar="FILE.npy", help="gaussian if not given"
    )
    parser.add_argument("--queries", metavar="FILE.npy", help="drawn like the rows if not given")
    parser.add_argument("--jitter", type=float, default=0.03, help="noise of each value, where files are repeated")
    parser.add_argument("--level", default="f32", choices=("f64", "f32", "f16"))
    parser.add_argument("--count", type=int, default=100, help="how many queries")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--index", metavar="FILE", help="an index file to ask --queries of, instead of building one")
    parser.add_argument("--folder", help="on a disk, for the file; that of temporary files if not given")
    args = parser.parse_args()
    if args.index and not args.queries:
        parser.error("--index: expected --queries with it, got none")
    return args


def prepare(args: argparse.Namespace, folder: str) -> tuple[Path, workload.Array]:
    """The index file and the queries."""
    if args.index:
        given = workload.read(args.queries)
        return Path(args.index), given[np.resize(np.arange(len(given)), args.count)]
    source = workload.Source(args.data, args.queries, args.rows, args.dims, args.jitter, 0)
    table, asked = workload.make(source, args.count)
    return Path(nseekfs.create_index(table, folder, level=args.level)), asked


def megabytes(parts: dict[str, int]) -> str:
    return f"{sum(parts.values()) / 1e6:.1f} MB ({', '.join(f'{part} {n / 1e6:.1f}' for part, n in parts.items())})"


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        file, asked = prepare(args, folder)
        np.save(Path(folder, "queries.npy"), asked)
        forget(file)
        size = {part: size for part, (size, _) in held(file).items()}
        group = limited(size["rows"] // 4)
        report, found = ask(file, folder, args.k, group)
        kept = {part: kept for part, (_, kept) in held(file).items()}
        index = nseekfs.load_index(file, mode="ram")
        bound = {**size, "rows": int(report["rows"] * args.count * row_pages(file, len(index)) * PAGE)}
        plain = index.search(asked, k=args.k, method="simd")
    same = (found["ids"] == plain.indices).all(axis=1) & (found["keys"] == plain.keys).all(axis=1)
    limit = f"a quarter of the rows, {size['rows'] / 4e6:.0f} MB, by a cgroup" if group else "that of the machine"
    print(workload.machine())
    data = args.index or " ".join(args.data)
    print(f"{index.rows} x {index.dims}, {index.level}, {data}, k={args.k}, one thread; memory: {limit}")
    print(f"the file: {megabytes(size)}")
    print(f"in memory after {args.count} queries, none of it before: {megabytes(kept)}")
    print(f"codes, norms and the pages of the rows read in full: {megabytes(bound)}")
    print(f"rows read in full: {report['rows']:.1f} a query; load_index: {report['open'] * 1e3:.2f} ms")
    for turn, name in (("cold", "asked first"), ("warm", "asked again")):
        seconds, read = report[turn]["seconds"], report[turn]["read"] / 1e6 / args.count
        first, median = seconds[0] * 1e3, statistics.median(seconds) * 1e3
        print(f"{name}: median {median:.2f} ms, the first query {first:.2f} ms; {read:.2f} MB a query from disk")
    print(f"answers equal to those of reading every row in memory: {same.sum()} of {args.count}")
    if not same.all():
        sys.exit("nseekfs differs from the plain scan")


if __name__ == "__main__":
    main()
