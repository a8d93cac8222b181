"""What `failures.py` makes fail: operations on indexes and files, each with its right answer."""

import contextlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np
from nseekfs import cli
from nseekfs.cluster import KMeans, MiniBatchKMeans

WRITERS = ("save", "save ivf", "build and save")
"""Operations that write a file into the scratch folder."""


class ProgressError(Exception):
    """Raised by a progress callable."""


class World:
    """Indexes, files and the operations on them, each with its right answer."""

    def __init__(self, folder: Path, rows: int) -> None:
        rng = np.random.default_rng(0)
        self.folder, self.scratch = folder, folder / "scratch"
        self.scratch.mkdir()
        self.rows = rng.standard_normal((rows, 64), dtype=np.float32)
        self.few = self.rows[:2000]
        self.queries = self.rows[:300] + rng.standard_normal((300, 64), dtype=np.float32)
        self.exact = nseekfs.from_embeddings(self.rows)
        self.ivf = nseekfs.from_embeddings(self.few, ann="ivf", seed=3)
        self.lsh = nseekfs.from_embeddings(self.few, ann=nseekfs.LSH(tables=4, bits=6), seed=3)
        self.files = {}
        for name in ("exact", "ivf", "lsh"):
            self.files[name] = str(folder / f"{name}.bin")
            getattr(self, name).save(self.files[name])
        self.mapped = nseekfs.load_index(self.files["exact"])
        self.bytes = pickle.dumps(self.unsaved())
        self.target = str(self.scratch / "target.bin")
        nseekfs.from_embeddings(self.few[:10]).save(self.target)
        for path in (folder, self.scratch):
            path.chmod(0o777)
        for path in (*self.files.values(), self.target):
            os.chmod(path, 0o666)
        self.operations = self._operations()
        self.expected: dict[str, bytes] = {}
        for name, operation in self.operations.items():
            if "save" not in name:
                self.expected[name] = operation()
                assert operation() == self.expected[name], f"{name} has no single answer"

    def unsaved(self) -> nseekfs.Index:
        return nseekfs.from_embeddings(self.few[:500])

    def _operations(self) -> dict[str, Callable[[], bytes]]:
        exact, ivf, lsh, build = self.exact, self.ivf, self.lsh, nseekfs.from_embeddings
        found: dict[str, Callable[[], bytes]] = {
            "query": lambda: _bytes(exact.query(self.queries[0], 20)),
            "query ivf": lambda: _bytes(ivf.query(self.queries[0], 20)),
            "query lsh": lambda: _bytes(lsh.query(self.queries[0], 20)),
            "search": lambda: _bytes(exact.search(self.queries, 20, threads=2)),
            "search, large k": lambda: _bytes(exact.search(self.queries[:20], 3000, threads=2)),
            "search, method simd": lambda: _bytes(exact.search(self.queries[:40], 20, method="simd", threads=2)),
            "search ivf": lambda: _bytes(ivf.search(self.queries, 20, threads=2)),
            "search lsh": lambda: _bytes(lsh.search(self.queries, 20, threads=2)),
            "search a file": lambda: _bytes(self.mapped.search(self.queries, 20, threads=2)),
            "filter": lambda: _bytes(exact.search(self.queries, 20, filter=np.arange(0, len(self.rows), 2), threads=2)),
            "mask": lambda: _bytes(exact.query(self.queries[0], 20, filter=np.arange(len(self.rows)) % 2 == 0)),
            "rows": lambda: exact[::3].tobytes() + exact[:1000].tobytes(),
            "recall": lambda: repr(ivf.recall(self.queries)).encode(),
            "tune": lambda: _tuned(ivf, self.queries),
            "explain_miss": lambda: repr(ivf.explain_miss(self.queries[0], 8, k=3)).encode(),
            "save": lambda: _saved(exact, self.target),
            "save ivf": lambda: _saved(ivf, self.target),
            "load": lambda: _loaded(self.files["exact"], mode="ram", verify="full"),
            "load ivf": lambda: _loaded(self.files["ivf"], verify="full"),
            "load lsh": lambda: _loaded(self.files["lsh"], mode="ram"),
            "verify": lambda: repr(self.mapped.verify()).encode(),
            "pickle": lambda: pickle.dumps(self.unsaved(), 5),
            "unpickle": lambda: _bytes(pickle.loads(self.bytes).query(self.queries[0])),
            "build, codes": lambda: _built(build(self.rows, threads=2)),
            "build ivf": lambda: _built(build(self.few, ann="ivf", threads=2)),
            "build lsh": lambda: _built(build(self.few, ann=nseekfs.LSH(tables=4, bits=6), threads=2)),
            "build and save": lambda: _built(build(self.few, output_dir=self.scratch, base_name="made")),
            "KMeans": lambda: KMeans(40, seed=1).fit(self.few).cluster_centers_.tobytes(),
            "MiniBatchKMeans": lambda: MiniBatchKMeans(40, seed=1).fit(self.few).cluster_centers_.tobytes(),
            "predict": lambda: KMeans(5, seed=1, max_iter=1).fit(self.few[:50]).predict(self.few).tobytes(),
            "no such file": _refused(lambda: nseekfs.load_index("/no/such")),
            "not a number": _refused(lambda: build([[float("nan")]])),
            "progress": _refused(lambda: build(self.few[:500], progress=_stop)),
        }
        for level in ("f64", "f16", "f8"):
            found[f"build {level}"] = lambda level=level: _built(build(self.rows[:6000], level=level, threads=2))
        for command in ("verify", "info"):
            found[f"-m nseekfs {command}"] = lambda command=command: _command([command, self.files["ivf"]])
        return found

    def judge(self) -> str:
        """After a failure: whether indexes answer and files are as they were."""
        for name in ("query", "search ivf", "query lsh"):
            if self.operations[name]() != self.expected[name]:
                return "wrong"
        names = {entry.name for entry in self.scratch.iterdir()} if self.scratch.exists() else set()
        if names - {"target.bin", "made_f32.bin"}:
            return "left"
        for name in names:
            with nseekfs.load_index(self.scratch / name, verify="full") as whole:
                if whole.query(whole[5], 1)[0]["idx"] != 5:
                    return "wrong"
        return ""


def _refused(operation: Callable[[], object]) -> Callable[[], bytes]:
    """The name of the error that `operation` raises as its answer."""

    def run() -> bytes:
        try:
            operation()
        except (ProgressError, FileNotFoundError, nseekfs.InputError) as error:
            return type(error).__name__.encode()
        return b"nothing"

    return run


def _bytes(found: Any) -> bytes:
    if isinstance(found, nseekfs.Hits):
        return repr(found.to_list()).encode()
    return b"".join(np.ascontiguousarray(part).tobytes() for part in found)


def _built(index: nseekfs.Index) -> bytes:
    return _bytes(index.query(index[len(index) // 2], 5))


def _loaded(path: str, **options: Any) -> bytes:
    with nseekfs.load_index(path, **options) as index:
        return _built(index)


def _saved(index: nseekfs.Index, path: str) -> bytes:
    # A copy, because an index remembers where it was saved.
    index.__copy__().save(path)
    return b""


def _tuned(index: nseekfs.Index, queries: Any) -> bytes:
    other = index.__copy__()
    other.tune(0.9, queries=queries[:100], threads=2)
    return repr(other.ann).encode()


def _command(arguments: list[str]) -> bytes:
    with contextlib.redirect_stdout(io.StringIO()):
        status = cli.main(arguments)
    if status != cli.FINE:
        raise nseekfs.Error(f"exit code {status}")
    return b""


def _stop(*_: object) -> None:
    raise ProgressError
