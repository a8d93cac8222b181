"""Tables that change, beside other libraries: rows added, replaced and deleted, search afterwards, sizes and reopening.

Each library does what the others do, in this process, with one thread for its searches:

- adds a second, one by one and by 1,000, in memory and so that they survive (nseekfs: every call is synced; others:
  their own way to save, once every 1,000 rows, as they have no other);
- deletes and upserts a second;
- search of 100 queries after the adds came in commits of 100, relative to an index built at once (nseekfs);
- bytes in the file, time to open it.

    pip install faiss-cpu usearch hnswlib turbovec lancedb; python benches/living.py --rows 100000
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np

Array = np.ndarray[Any, Any]


class Nseekfs:
    """nseekfs in memory, or in a file where every call is a durable commit."""

    name, durable = "nseekfs", "every call"

    def __init__(self, dims: int, folder: Path | None) -> None:
        self.path = None if folder is None else folder / "nseekfs.bin"
        self.index = nseekfs.empty(dims, "dot", path=self.path)

    def add(self, rows: Array, ids: Array) -> None:
        self.index.add(rows, ids)

    def upsert(self, rows: Array, ids: Array) -> None:
        self.index.upsert(rows, ids)

    def delete(self, ids: Array) -> None:
        self.index.delete(ids)

    def save(self) -> None:
        """Nothing to do: every call has been written."""

    def reopen(self) -> None:
        self.index.close()
        self.index = nseekfs.load_index(self.path, writable=True)  # type: ignore[arg-type]


class FaissFlat:
    """faiss IndexIDMap2 over IndexFlatIP."""

    name, durable = "faiss IDMap2,Flat", "a whole file"

    def __init__(self, dims: int, folder: Path | None) -> None:
        import faiss

        self.faiss, self.path = faiss, str((folder or Path()) / "faiss.bin")
        self.index = faiss.IndexIDMap2(faiss.IndexFlatIP(dims))

    def add(self, rows: Array, ids: Array) -> None:
        self.index.add_with_ids(rows, ids)

    def upsert(self, rows: Array, ids: Array) -> None:
        self.index.remove_ids(ids)
        self.index.add_with_ids(rows, ids)

    def delete(self, ids: Array) -> None:
        self.index.remove_ids(ids)

    def save(self) -> None:
        self.faiss.write_index(self.index, self.path)

    def reopen(self) -> None:
        self.index = self.faiss.read_index(self.path)


class Usearch:
    """usearch's HNSW."""

    name, durable = "usearch", "a whole file"

    def __init__(self, dims: int, folder: Path | None) -> None:
        from usearch.index import Index

        self.make: Any = Index
        self.path = str((folder or Path()) / "usearch.bin")
        self.index = Index(ndim=dims, metric="ip", dtype="f32")

    def add(self, rows: Array, ids: Array) -> None:
        self.index.add(ids, rows, threads=1)

    def upsert(self, rows: Array, ids: Array) -> None:
        self.index.remove(ids)
        self.index.add(ids, rows, threads=1)

    def delete(self, ids: Array) -> None:
        self.index.remove(ids)

    def save(self) -> None:
        self.index.save(self.path)

    def reopen(self) -> None:
        self.index = self.make.restore(self.path)


class Hnswlib:
    """hnswlib."""

    name, durable = "hnswlib", "a whole file"

    def __init__(self, dims: int, folder: Path | None) -> None:
        import hnswlib

        self.make, self.dims = hnswlib.Index, dims
        self.path = str((folder or Path()) / "hnswlib.bin")
        self.index = hnswlib.Index("ip", dims)
        self.index.init_index(1_000_000, allow_replace_deleted=True)
        self.index.set_num_threads(1)

    def add(self, rows: Array, ids: Array) -> None:
        self.index.add_items(rows, ids)

    upsert = add

    def delete(self, ids: Array) -> None:
        for one in ids.tolist():
            self.index.mark_deleted(one)

    def save(self) -> None:
        self.index.save_index(self.path)

    def reopen(self) -> None:
        self.index = self.make("ip", self.dims)
        self.index.load_index(self.path)


class Turbovec:
    """turbovec's IdMapIndex of 4 bits a value."""

    name, durable = "turbovec 4 bits", "its sync"

    def __init__(self, dims: int, folder: Path | None) -> None:
        import turbovec

        self.module, self.path = turbovec, str((folder or Path()) / "turbovec.bin")
        self.index = turbovec.IdMapIndex(dim=dims, bit_width=4)

    def add(self, rows: Array, ids: Array) -> None:
        self.index.add_with_ids(rows, ids.astype(np.uint64))

    def upsert(self, rows: Array, ids: Array) -> None:
        self.delete(ids)
        self.add(rows, ids)

    def delete(self, ids: Array) -> None:
        for one in ids.tolist():
            self.index.remove(one)

    def save(self) -> None:
        (self.index.sync if hasattr(self.index, "sync") else self.index.write)(self.path)

    def reopen(self) -> None:
        self.index = self.module.IdMapIndex.load(self.path)


class Lancedb:
    """lancedb, a table of vectors without an index."""

    name, durable = "lancedb", "every call"

    def __init__(self, dims: int, folder: Path | None) -> None:
        import lancedb
        import pyarrow

        self.arrow, self.dims = pyarrow, dims
        self.path = str((folder or Path(tempfile.mkdtemp())) / "lance")
        self.connect = lancedb.connect
        schema = pyarrow.schema([("id", pyarrow.int64()), ("vector", pyarrow.list_(pyarrow.float32(), dims))])
        self.index = lancedb.connect(self.path).create_table("rows", schema=schema)

    def table(self, rows: Array, ids: Array) -> Any:
        vectors = self.arrow.FixedSizeListArray.from_arrays(self.arrow.array(rows.reshape(-1)), self.dims)
        return self.arrow.table({"id": self.arrow.array(ids), "vector": vectors})

    def add(self, rows: Array, ids: Array) -> None:
        self.index.add(self.table(rows, ids))

    def upsert(self, rows: Array, ids: Array) -> None:
        merge = self.index.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(self.table(rows, ids))

    def delete(self, ids: Array) -> None:
        self.index.delete(f"id in ({', '.join(map(str, ids.tolist()))})")

    def save(self) -> None:
        """Nothing to do: every call has been written."""

    def reopen(self) -> None:
        self.index = self.connect(self.path).open_table("rows")


LIBRARIES: list[type[Any]] = [Nseekfs, Turbovec, FaissFlat, Usearch, Hnswlib, Lancedb]


def bytes_of(path: str | Path | None) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path is None or not os.path.exists(path):
        return 0
    files = [path] if os.path.isfile(path) else [entry for entry in Path(path).rglob("*") if entry.is_file()]
    return sum(os.path.getsize(file) for file in files)


def one_by_one(library: Any, rows: Array, at: int, seconds: float, durable: bool) -> int:
    """Adds for some seconds; the first row that was not added."""
    end, start = time.perf_counter() + seconds, at
    while time.perf_counter() < end and at < len(rows) - 20_000:
        library.add(rows[at : at + 1], np.array([at]))
        at += 1
        if durable and (at - start) % 1000 == 0:
            library.save()
    if durable:
        library.save()
    return at


def by_thousand(library: Any, rows: Array, at: int, seconds: float, durable: bool) -> int:
    """The same, 1,000 rows in a call."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and at < len(rows) - 2000:
        library.add(rows[at : at + 1000], np.arange(at, at + 1000))
        at += 1000
        if durable:
            library.save()
    return at


def measure(make: type[Any], rows: Array, base: int, seconds: float) -> dict[str, float]:
    """All figures of one library."""
    found: dict[str, float] = {}
    for where in ("memory", "disk"):
        with tempfile.TemporaryDirectory() as folder:
            library, at = make(rows.shape[1], Path(folder) if where == "disk" else None), base
            library.add(rows[:base], np.arange(base))
            for how, adds in (("one by one", one_by_one), ("by 1,000", by_thousand)):
                start = time.perf_counter()
                now = adds(library, rows, at, seconds, where == "disk")
                found[f"adds/s {how}, {where}"] = (now - at) / (time.perf_counter() - start)
                at = now
            if where == "disk":
                found["bytes a row on disk"] = bytes_of(library.path) / at
                start = time.perf_counter()
                library.reopen()
                found["ms to open"] = 1000 * (time.perf_counter() - start)
                continue
            parts = [np.arange(first, first + 100) for first in range(0, 2000, 100)]
            start = time.perf_counter()
            for part in parts:
                library.upsert(rows[part[::-1]], part)
            middle = time.perf_counter()
            for part in parts:
                library.delete(part)
            found["upserts/s by 100"] = 2000 / (middle - start)
            found["deletes/s by 100"] = 2000 / (time.perf_counter() - middle)
    return found


def after_adds(rows: Array, repeats: int) -> dict[str, float]:
    """Time of searches after the adds came in commits of 100, relative to an index built at once."""
    queries = rows[::-7][:100].copy()
    grown = nseekfs.empty(rows.shape[1], "dot")
    for at in range(0, len(rows), 100):
        grown.add(rows[at : at + 100])
    fresh = nseekfs.from_embeddings(rows, "dot")
    a, b = grown.search(queries, 10), fresh.search(queries, 10)
    if not (np.array_equal(a.indices, b.indices) and a.keys.tobytes() == b.keys.tobytes()):
        raise RuntimeError("the answers differ")
    ratios: dict[str, list[float]] = {"search of 100 queries, grown / fresh": [], "one query, grown / fresh": []}
    for _ in range(repeats):
        times = []
        for index in (grown, fresh):
            start = time.perf_counter()
            index.search(queries, 10, threads=1)
            middle = time.perf_counter()
            for query in queries[:30]:
                index.query(query, 10, threads=1)
            times.append((middle - start, time.perf_counter() - middle))
        for name, (mine, other) in zip(ratios, zip(*times, strict=True), strict=True):
            ratios[name].append(mine / other)
    return {name: statistics.median(each) for name, each in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--base", type=int, default=10_000, help="rows that are there before the adds are timed")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each kind of adds")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data", help="a .npy of rows; else they are drawn from a normal distribution")
    options = parser.parse_args()
    if options.data:
        rows = np.load(options.data)[: options.rows].astype(np.float32)
    else:
        rows = np.random.default_rng(0).standard_normal((options.rows, options.dims), dtype=np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {len(rows)} rows x {rows.shape[1]} dims"
    )
    for name, value in after_adds(rows, options.repeats).items():
        print(f"{value:12.3f}  {name}")
    table: dict[str, dict[str, float]] = {}
    for make in LIBRARIES:
        try:
            table[make.name] = measure(make, rows, options.base, options.seconds)
        except ImportError as error:
            print(f"{make.name}: not installed ({error})")
        except Exception as error:
            print(f"{make.name}: {type(error).__name__}: {error}")
    figures = list(table.get("nseekfs", {}))
    print(f"{'':34}" + "".join(f"{name:>18}" for name in table))
    for figure in figures:
        print(f"{figure:34}" + "".join(f"{table[name].get(figure, float('nan')):18,.0f}" for name in table))
    packages = ["turbovec", "faiss-cpu", "usearch", "hnswlib", "lancedb"]
    known = {one.metadata["Name"] for one in importlib.metadata.distributions()}
    print(", ".join(f"{one} {importlib.metadata.version(one)}" for one in packages if one in known))


if __name__ == "__main__":
    main()
