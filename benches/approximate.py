"""The engines of compare.py --recall, their search-time settings, and the search for the fastest setting.

The classes derive from those of peers.py; this file is also the process that each engine runs in. An engine is built
once. `ladders` then lists its search-time settings: down a list, every setting finds more rows and takes longer. So a
binary search finds the first setting of each list that reaches a target, and the fastest of these is taken. The queries
of this search are not measured later.

Indexes are built with the usual parameters of their authors, or the better of them where they differ. Parameters that
did not help are not offered. Every peer that can keep the rows uses them for its last step. The exact engines show the
gain of approximation.
"""

import time
from bisect import bisect_left
from typing import Any

import numpy as np
import workload
from peers import TRIAL, Array, Engine, Faiss, Nseekfs, Scann, Seed, Setting, Worker, serve

BUILT_FOR = 0.95  # recall that nseekfs is built with; each search gives its own
EF_CONSTRUCTION = 200  # for all graphs
MOST_EF = 4000  # longest candidate list of a search in a graph
SPILL = 1.5  # soar_lambda as ScaNN recommends it
LONGEST = 3.0  # seconds of one measurement; slower engines get fewer of the test queries
ENOUGH = 10.0  # seconds after which the recall is that of the queries so far


def rungs(low: int, high: int) -> list[int]:
    """Whole numbers from `low` to `high`, each larger than the one before by 1 or by a tenth."""
    steps = [low]
    while steps[-1] < high:
        steps.append(min(high, max(steps[-1] + 1, steps[-1] * 11 // 10)))
    return steps


class NseekfsAnn(Nseekfs):
    """nseekfs with a target recall; there is no setting to tune."""

    def build(self, **how: Any) -> None:
        ann = {"auto": True}.get(self.options["ann"], self.options["ann"])
        super().build(ann=ann, recall=BUILT_FOR, **how)

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:  # noqa: ARG002
        return [[{"recall": target}]]

    def use(self, setting: Setting) -> None:
        self.arguments["recall"] = setting["recall"]


class FaissIvf(Faiss):
    """faiss IVFFlat: cells of k-means, rows in float32."""

    kind = "IVF{cells},Flat"

    def build(self) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        dims = self.table.shape[1]
        kind = self.kind.format(cells=self.options["cells"], pairs=dims // 2)
        self.index = faiss.index_factory(dims, kind, faiss.METRIC_INNER_PRODUCT)
        self.cells = faiss.extract_index_ivf(self.index)
        self.index.train(self.table)
        self.index.add(self.table)

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:  # noqa: ARG002
        return [[{"nprobe": probes} for probes in rungs(1, self.options["cells"])]]

    def use(self, setting: Setting) -> None:
        self.cells.nprobe = setting["nprobe"]


class FaissPq(FaissIvf):
    """faiss IVF-PQ fast-scan: residuals in two bits a value, and the best rows refined in float32."""

    kind = "IVF{cells},PQ{pairs}x4fsr,RFlat"

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:
        probes = super().ladders(batch, target)[0]
        return [[{**setting, "k_factor": factor} for setting in probes] for factor in (2, 3, 5, 10, 25)]

    def use(self, setting: Setting) -> None:
        super().use(setting)
        self.index.k_factor = setting["k_factor"]


class Graph(Engine):
    """A graph of neighbours, searched with a list of `ef` candidates."""

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:  # noqa: ARG002
        return [[{"ef": ef} for ef in rungs(self.k, min(MOST_EF, len(self.table)))]]

    def use(self, setting: Setting) -> None:
        self.ef = int(setting["ef"])


class FaissHnsw(Graph, Faiss):
    """faiss HNSW: rows in float32."""

    def build(self) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        self.index = faiss.IndexHNSWFlat(self.table.shape[1], self.options["links"], faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(self.table)

    def use(self, setting: Setting) -> None:
        self.index.hnsw.efSearch = setting["ef"]


class Hnswlib(Graph):
    """hnswlib: rows in float32."""

    package = "hnswlib"

    def build(self) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=self.table.shape[1])
        self.index.init_index(len(self.table), M=self.options["links"], ef_construction=EF_CONSTRUCTION)
        self.index.add_items(self.table, num_threads=self.threads)

    def use(self, setting: Setting) -> None:
        self.index.set_ef(setting["ef"])

    def ask(self, queries: Array) -> Array:
        return np.asarray(self.index.knn_query(queries, self.k, num_threads=self.threads)[0])


class UsearchHnsw(Graph):
    """usearch HNSW: rows in bfloat16, its own choice where the CPU multiplies them."""

    package = "usearch"

    def build(self) -> None:
        from usearch.index import Index, MetricKind

        self.index = Index(
            ndim=self.table.shape[1],
            metric=MetricKind.IP,
            dtype="bf16",
            connectivity=self.options["links"],
            expansion_add=EF_CONSTRUCTION,
        )
        self.index.add(np.arange(len(self.table)), self.table, threads=self.threads)

    def use(self, setting: Setting) -> None:
        self.index.expansion_search = setting["ef"]

    def ask(self, queries: Array) -> Array:
        given = queries[0] if len(queries) == 1 else queries
        return np.asarray(self.index.search(given, self.k, threads=self.threads).keys).reshape(len(queries), -1)


class ScannTree(Scann):
    """ScaNN: a tree with two leaves for each row (SOAR), four bits for two values, and the best rows reordered."""

    def build(self) -> None:
        import scann

        builder = scann.scann_ops_pybind.builder(self.table, self.k, "dot_product")
        builder.set_n_training_threads(self.threads)
        leaves = self.options["leaves"]
        builder.tree(leaves, max(1, leaves // 20), training_sample_size=len(self.table), soar_lambda=SPILL)
        builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        self.index = builder.reorder(10 * self.k).build()
        self.index.set_num_threads(self.threads)

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:  # noqa: ARG002
        call: Setting = {"call": "single"} if batch == 1 else {"call": "batched"}
        if batch > 1 and self.threads > 1:
            call = {"call": "parallel", "share": -(-batch // self.threads)}
        leaves = rungs(1, self.options["leaves"])
        return [[{**call, "leaves": n, "reorder": depth * self.k} for n in leaves] for depth in (2, 3, 5, 10, 25)]


class RabitqIvf(Engine):
    """RaBitQ IVF: one bit a value, and undecided rows by their values."""

    package = "rabitqlib"

    def build(self) -> None:
        import rabitqlib

        cells, (rows, dims) = self.options["cells"], self.table.shape
        clusters = rabitqlib.RaBitQKMeans(
            dims,
            cells,
            num_threads=self.threads,
            spherical=True,
            final_assignment=rabitqlib.FinalAssignmentMode.Exact,
        )
        clusters.train(self.table)
        # 32 bits are the row itself.
        self.index = rabitqlib.IvfIndex(dims, rows, cells, nbits=32, metric="ip")
        self.index.build(self.table, clusters.centroids, clusters.assignments, num_threads=self.threads)

    def ladders(self, batch: int, target: float) -> list[list[Setting]]:  # noqa: ARG002
        return [[{"nprobe": probes} for probes in rungs(1, self.options["cells"])]]

    def use(self, setting: Setting) -> None:
        self.probes = setting["nprobe"]

    def ask(self, queries: Array) -> Array:
        return np.asarray(self.index.search(queries, self.k, self.probes, num_threads=self.threads)[0])


class RabitqGraph(Graph):
    """SymphonyQG: a graph whose edges hold codes of one bit a value; visited rows in float32."""

    package = "rabitqlib"

    def build(self) -> None:
        import rabitqlib

        self.index = rabitqlib.SymqgIndex(self.table.shape[1], 32, metric="ip")
        self.index.build(self.table, ef_construction=EF_CONSTRUCTION, num_threads=self.threads)

    def ask(self, queries: Array) -> Array:
        return np.asarray(self.index.search_batch(queries, self.k, self.ef, num_threads=self.threads)[0])


ENGINES: dict[str, type[Engine]] = {
    "nseekfs": NseekfsAnn,
    "nseekfs-exact": Nseekfs,
    "faiss-ivf": FaissIvf,
    "faiss-pq": FaissPq,
    "faiss-hnsw": FaissHnsw,
    "scann-tree": ScannTree,
    "hnswlib": Hnswlib,
    "usearch-hnsw": UsearchHnsw,
    "rabitq-ivf": RabitqIvf,
    "rabitq-graph": RabitqGraph,
    "nseekfs-1.1.0": Seed,
}


class Attempt:
    """A trial of one setting on all tuning queries: its recall, and the mean seconds of a call in the fastest pass."""

    def __init__(self, tuner: "Tuner", setting: Setting) -> None:
        self.tuner, self.setting = tuner, setting
        self.passes: list[float] = []
        found = self.again()
        ids, scores = tuner.truth
        self.recall = workload.check(found[: len(ids)], ids, scores, tuner.engine.k)["recall"]

    def again(self) -> Array:
        self.tuner.engine.use(self.setting)
        found: list[Array] = []
        start, spent = time.perf_counter(), 0.0
        while len(found) < len(self.tuner.batches) and spent < ENOUGH:
            found.append(self.tuner.engine.ask(self.tuner.batches[len(found)]))
            spent = time.perf_counter() - start
        self.passes.append(spent / len(found))
        return np.concatenate(found).astype(np.int64)

    def seconds(self) -> float:
        calls = len(self.tuner.batches)
        while (spent := sum(self.passes) * calls) < ENOUGH and (len(self.passes) < 3 or spent < TRIAL):
            self.again()
        return min(self.passes)


class Tuner(Worker):
    """The requests that an engine answers in a comparison at equal recall."""

    engines = ENGINES

    def cut(self, path: str, batch: int) -> None:
        """Cut the queries of a file into batches; the first queries fill up the last batch."""
        queries = np.load(path)
        whole = -(-len(queries) // batch) * batch
        queries = queries[np.resize(np.arange(len(queries)), whole)]
        self.batches = [queries[i : i + batch] for i in range(0, whole, batch)]

    def tune(self, queries: str, reference: str, batch: int, targets: list[float]) -> dict[str, Any]:
        """The fastest setting for each target."""
        self.cut(queries, batch)
        with np.load(reference) as kept:
            self.truth = kept["ids"], kept["scores"]
        self.attempts: dict[str, Attempt] = {}
        return {"plans": [self.plan(batch, target) for target in targets]}

    def plan(self, batch: int, target: float) -> dict[str, Any]:
        """The fastest setting that reaches the target, or else the setting of the highest recall."""
        reached, short = [], []
        for ladder in self.engine.ladders(batch, target):
            at = bisect_left(ladder, target, key=lambda setting: self.attempt(setting).recall)
            if at < len(ladder):
                reached.append(self.attempt(ladder[at]))
            else:
                short.append(self.attempt(ladder[-1]))
        best = min(reached, key=Attempt.seconds) if reached else max(short, key=lambda attempt: attempt.recall)
        return {
            "setting": best.setting,
            "tuned_recall": best.recall,
            "reached": bool(reached),
            "seconds": min(best.passes),
        }

    def attempt(self, setting: Setting) -> Attempt:
        """The trial of a setting, which runs once."""
        key = repr(setting)
        if key not in self.attempts:
            self.attempts[key] = Attempt(self, setting)
        return self.attempts[key]

    def take(self, setting: Setting, queries: str, batch: int, seconds: float) -> dict[str, Any]:
        """Take a setting; set the number of calls of a measurement, in whole passes where possible."""
        self.cut(queries, batch)
        each = self.trial(setting)
        a_pass = max(1, min(len(self.batches), int(LONGEST / each)))
        self.calls = a_pass * max(1, round(seconds / (a_pass * each)))
        return {"calls": self.calls, "checked": min(len(self.batches), int(ENOUGH / each) + 1) * batch}


if __name__ == "__main__":
    serve(Tuner)
