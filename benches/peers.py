"""The engines of compare.py behind one interface, and the process that each of them runs in.

An engine runs in a process of its own, with the number of threads in its environment, because some libraries (OpenBLAS,
OpenMP runtimes, rayon's global pool) read that only once, and because two packages here have the same name. Run as a
script, this file is that process: it reads one JSON request a line and writes one JSON answer a line. Times are
measured in this process, next to the call, so they do not include the pipe.

The table is a mapped file that all processes share. Engines that search the given array copy it first, as others do
when they build, so that every engine reads memory of its own.

An engine may have several settings for a batch size. The fastest is chosen once, before the rounds. approximate.py has
the engines for target recalls.
"""

import argparse
import json
import os
import sys
import time
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Setting = dict[str, Any]
Metric = Literal["dot", "cosine"]
TRIAL = 0.3  # seconds of the trial of a setting


class Engine:
    """One engine over one table; `ask` returns row numbers, best first, shape (queries, k)."""

    package = ""

    def __init__(self, table: Array, metric: Metric, k: int, threads: int, **options: Any) -> None:
        self.table, self.metric, self.k, self.threads, self.options = table, metric, k, threads, options
        self.build()

    def build(self) -> None:
        """Build the index. The build time is reported."""

    def version(self) -> str:
        """The version of the package."""
        from importlib.metadata import version

        return version(self.package)

    def settings(self, batch: int) -> list[Setting]:  # noqa: ARG002
        """The settings to try for this batch size."""
        return [{}]

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:  # noqa: ARG002
        """The settings to try for a recall: lists in which every setting finds more and takes longer than the one
        before."""
        return [[setting] for setting in self.settings(batch)]

    def use(self, setting: Setting) -> None:
        """Apply one of `settings`."""

    def ask(self, queries: Array) -> Array:
        """Row numbers of the best k."""
        raise NotImplementedError


class Nseekfs(Engine):
    """nseekfs through its public calls: `query` for one vector, `search` for several."""

    package = "nseekfs"

    def build(self, **how: Any) -> None:
        import nseekfs

        if super().version() < "2":
            raise RuntimeError(f"nseekfs {super().version()} is installed, not this project")
        self.arguments: dict[str, Any] = {"threads": self.threads}
        self.index = nseekfs.from_embeddings(self.table, metric=self.metric, threads=self.threads, **how)
        self.simd_info = nseekfs.simd_info()

    def version(self) -> str:
        return f"{super().version()} {self.simd_info}"

    def ask(self, queries: Array) -> Array:
        if len(queries) == 1:
            return np.asarray(self.index.query(queries[0], top_k=self.k, **self.arguments).indices)[None]
        return np.asarray(self.index.search(queries, k=self.k, **self.arguments).indices)


class Seed(Engine):
    """nseekfs 1.1.0, an earlier release."""

    package = "nseekfs"

    def build(self) -> None:
        import nseekfs

        if self.version() != "1.1.0":
            raise RuntimeError(f"nseekfs {self.version()} is installed, not 1.1.0")
        # This is its fast path for rows of length 1. It writes a file into the working folder.
        self.index: Any = nseekfs.from_embeddings(self.table, metric="cosine", normalized=True)

    def settings(self, batch: int) -> list[Setting]:
        return [{"call": "single"}] if batch == 1 else [{"call": "batch"}, {"call": "single"}]

    def use(self, setting: Setting) -> None:
        self.call = setting["call"]

    def ask(self, queries: Array) -> Array:
        if self.call == "batch":
            return np.asarray(self.index.query_batch_arrays(queries, top_k=self.k)["indices"])
        rows = [self.index.query_simple_arrays(query, top_k=self.k) for query in queries]
        return np.stack([np.asarray(row["indices"] if "indices" in row else row["idx"]) for row in rows])


class Faiss(Engine):
    """faiss IndexFlatIP with default settings."""

    package = "faiss-cpu"

    def build(self) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        self.faiss = faiss
        self.index = faiss.IndexFlatIP(self.table.shape[1])
        self.index.add(self.table)

    def ask(self, queries: Array) -> Array:
        return np.asarray(self.index.search(queries, self.k)[1])


class FaissTuned(Faiss):
    """faiss IndexFlatIP with the choice between loops and BLAS, and the block size of BLAS, tuned for the batch
    size."""

    def settings(self, batch: int) -> list[Setting]:  # noqa: ARG002
        # The threshold counts queries in older releases and values in newer ones; 1 and the maximum suit both.
        blas: list[Setting] = [{"blas_threshold": 1, "database_block": block} for block in (1024, 4096, 16384)]
        return [{"blas_threshold": 2**31 - 1}, *blas]

    def use(self, setting: Setting) -> None:
        self.faiss.cvar.distance_compute_blas_threshold = setting["blas_threshold"]
        self.faiss.cvar.distance_compute_blas_database_bs = setting.get("database_block", 1024)


class FaissQuantised(Faiss):
    """faiss IndexScalarQuantizer: a linear scan over quantised rows. Approximate."""

    kind = ""

    def build(self) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        kind = getattr(faiss.ScalarQuantizer, self.kind)
        self.index = faiss.IndexScalarQuantizer(self.table.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        self.index.train(self.table)
        self.index.add(self.table)


class FaissSq8(FaissQuantised):
    """faiss scalar quantizer with eight bits a value, each dim scaled to its range."""

    kind = "QT_8bit"


class FaissFp16(FaissQuantised):
    """faiss scalar quantizer with float16 values."""

    kind = "QT_fp16"


class Blocks(Engine):
    """A matrix product and a partial sort over blocks of rows; the block size is tuned, up to the whole table."""

    def build(self) -> None:
        self.table = np.array(self.table)

    def settings(self, batch: int) -> list[Setting]:
        rows = len(self.table)
        sizes = {rows} if batch * rows <= 1 << 28 else set()
        return [{"block": size} for size in sorted(sizes | {min(rows, 8192), min(rows, 65536)})]

    def use(self, setting: Setting) -> None:
        self.block = int(setting["block"])

    def starts(self) -> range:
        """The first row of each block."""
        return range(0, len(self.table), self.block)


class Numpy(Blocks):
    """numpy in float32: matmul, argpartition, sort of the few kept."""

    package = "numpy"

    def ask(self, queries: Array) -> Array:
        kept = [self.best(queries, start) for start in self.starts()]
        scores = np.concatenate([part[0] for part in kept], axis=1)
        rows = np.concatenate([part[1] for part in kept], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        return np.take_along_axis(rows, order, axis=1)

    def best(self, queries: Array, start: int) -> tuple[Array, Array]:
        scores = queries @ self.table[start : start + self.block].T
        keep = min(self.k, scores.shape[1])
        rows = np.argpartition(scores, scores.shape[1] - keep, axis=1)[:, -keep:]
        return np.take_along_axis(scores, rows, axis=1), rows + start


class Torch(Blocks):
    """torch in float32 on the CPU: mm, topk."""

    package = "torch"

    def build(self) -> None:
        import torch

        super().build()
        torch.set_num_threads(self.threads)
        self.torch = torch
        self.rows = torch.from_numpy(self.table)

    def ask(self, queries: Array) -> Array:
        with self.torch.inference_mode():
            given = self.torch.from_numpy(queries)
            kept = [self.best(given, start) for start in self.starts()]
            scores = self.torch.cat([part[0] for part in kept], dim=1)
            rows = self.torch.cat([part[1] for part in kept], dim=1)
            order = scores.topk(self.k, dim=1).indices
            return np.asarray(rows.gather(1, order).numpy())

    def best(self, queries: Any, start: int) -> tuple[Any, Any]:
        scores = queries @ self.rows[start : start + self.block].T
        top = scores.topk(min(self.k, scores.shape[1]), dim=1)
        return top.values, top.indices + start


class Scann(Engine):
    """ScaNN's brute force over float32."""

    package = "scann"
    quantised = False

    def build(self) -> None:
        import scann

        builder = scann.scann_ops_pybind.builder(self.table, self.k, "dot_product")
        self.index = builder.score_brute_force(quantize=self.quantised).build()
        self.index.set_num_threads(self.threads)

    def settings(self, batch: int) -> list[Setting]:
        if batch == 1:
            return [{"call": "single"}]
        shares = {-(-batch // self.threads), min(batch, 16), min(batch, 256)} if self.threads > 1 else set()
        parallel: list[Setting] = [{"call": "parallel", "share": share} for share in sorted(shares)]
        return [{"call": "batched"}, *parallel]

    def use(self, setting: Setting) -> None:
        told = {"leaves_to_search": setting.get("leaves", -1), "pre_reorder_num_neighbors": setting.get("reorder", -1)}
        self.call = setting["call"]
        self.told = told | ({"batch_size": setting["share"]} if self.call == "parallel" else {})

    def ask(self, queries: Array) -> Array:
        match self.call:
            case "single":
                return np.asarray(self.index.search(queries[0], **self.told)[0])[None]
            case "batched":
                return np.asarray(self.index.search_batched(queries, **self.told)[0])
            case _:
                return np.asarray(self.index.search_batched_parallel(queries, **self.told)[0])


class ScannInt8(Scann):
    """ScaNN's brute force over rows in eight bits a value. Approximate."""

    quantised = True


class Usearch(Engine):
    """usearch's exact search over float32; the number of queries of a call is tuned."""

    package = "usearch"

    def build(self) -> None:
        from usearch.index import MetricKind, search

        self.table = np.array(self.table)
        self.search, self.kind = search, MetricKind.IP

    def settings(self, batch: int) -> list[Setting]:
        # A call allocates 16 bytes for every pair of query and row; this limits them to 2 GB.
        most = max(1, (1 << 27) // len(self.table))
        return [{"share": share} for share in sorted({min(batch, 16, most), min(batch, most)})]

    def use(self, setting: Setting) -> None:
        self.share = int(setting["share"])

    def ask(self, queries: Array) -> Array:
        return np.concatenate([self.best(queries[i : i + self.share]) for i in range(0, len(queries), self.share)])

    def best(self, queries: Array) -> Array:
        found = self.search(self.table, queries, self.k, self.kind, exact=True, threads=self.threads)
        return np.asarray(found.keys).reshape(len(queries), -1)


ENGINES: dict[str, type[Engine]] = {
    "nseekfs": Nseekfs,
    "faiss": Faiss,
    "faiss-tuned": FaissTuned,
    "faiss-fp16": FaissFp16,
    "faiss-sq8": FaissSq8,
    "numpy": Numpy,
    "torch": Torch,
    "scann": Scann,
    "scann-int8": ScannInt8,
    "usearch": Usearch,
    "nseekfs-1.1.0": Seed,
}


class Worker:
    """The requests that the engine in this process answers."""

    engines = ENGINES

    def __init__(self, args: argparse.Namespace) -> None:
        rows = np.asarray(np.load(args.table, mmap_mode="r"))
        start = time.perf_counter()
        self.engine = self.engines[args.engine](rows, args.metric, args.k, args.threads, **args.options)
        self.built = time.perf_counter() - start

    def hello(self) -> dict[str, Any]:
        return {"version": self.engine.version(), "build_seconds": self.built}

    def prepare(self, queries: str, batch: int, seconds: float) -> dict[str, Any]:
        """Cut the queries into batches, apply the fastest setting, and set the number of calls of a measurement."""
        rows = np.load(queries)
        self.batches = [rows[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)]
        settings = self.engine.settings(batch)
        tried = [self.trial(setting) for setting in settings]
        best = settings[int(np.argmin(tried))]
        self.engine.use(best)
        self.calls = max(1, min(200, round(seconds / min(tried))))
        return {"setting": best, "calls": self.calls, "seconds": min(tried)}

    def trial(self, setting: Setting) -> float:
        """Seconds of the fastest of some calls; a slow call is not repeated."""
        self.engine.use(setting)
        self.calls = 1
        spent: list[float] = []
        while len(spent) < 2 or (sum(spent) < TRIAL and len(spent) < 20):
            spent.append(self.measure()["seconds"])
            if spent[-1] > 2:
                break
        return min(spent)

    def measure(self) -> dict[str, Any]:
        """Mean seconds of a call over `calls` calls with different queries."""
        chosen = [self.batches[i % len(self.batches)] for i in range(self.calls)]
        start = time.perf_counter()
        for batch in chosen:
            self.engine.ask(batch)
        return {"seconds": (time.perf_counter() - start) / self.calls}

    def answers(self, path: str, count: int) -> dict[str, Any]:
        """Write the row numbers found for the first `count` queries."""
        found: list[Array] = []
        for batch in self.batches:
            if sum(map(len, found)) >= count:
                break
            found.append(self.engine.ask(batch))
        np.save(path, np.concatenate(found)[:count].astype(np.int64))
        return {}


def serve(kind: type[Worker]) -> None:
    """Answer requests until the input ends. Output of libraries goes to standard error."""
    parser = argparse.ArgumentParser()
    arguments = ("engine", str), ("table", str), ("metric", str), ("k", int), ("threads", int), ("options", json.loads)
    for name, read in arguments:
        parser.add_argument(name, type=read)
    args = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(answer: dict[str, Any]) -> None:
        replies.write(json.dumps(answer) + "\n")
        replies.flush()

    try:
        worker = kind(args)
        reply(worker.hello())
    except Exception as error:  # an absent or broken peer is reported, whatever it raises
        reply({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        request = json.loads(line)
        reply(getattr(worker, request.pop("do"))(**request))


if __name__ == "__main__":
    serve(Worker)
