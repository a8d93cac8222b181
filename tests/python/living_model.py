"""A model of an index that changes, in plain Python: an ordered dict of rows by id.

Random operations are made on both; answers must be those of a fresh index of the model's rows, bit for bit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np
import pytest

WORDS = ["", "a", "ä", "b" * 40, "zero\0", "7", "row"]


class Model:
    """An index beside its model. `reopen` says how the index comes back from its file, if it has one."""

    def __init__(self, seed: int, folder: Path | None, **options: Any) -> None:
        self.random = np.random.default_rng(seed)
        self.dims = int(self.random.choice([1, 3, 17, 40]))
        self.level = options.get("level", "f32")
        self.metrics = ["hamming"] if self.level == "b1" else ["cosine", "dot", "euclidean"]
        self.metric = str(self.random.choice(self.metrics))
        if options.get("ann") == "lsh":
            self.metric = "cosine"
        self.texts = options.get("texts", False)
        self.rows: dict[Any, np.ndarray[Any, Any]] = {}
        self.next = 0
        self.path = None if folder is None else folder / "live.bin"
        self.ann = options.get("ann")
        self.index = self.first()
        self.reader = None if self.path is None else nseekfs.load_index(self.path)
        self.operations = 0

    def first(self) -> nseekfs.Index:
        """An index without rows; for approximate search, of some rows in cells or buckets."""
        kind: dict[str, Any] = {"metric": self.metric, "level": self.level}
        if self.ann is None:
            return nseekfs.empty(**kind, path=self.path)
        ids = [f"row{at}" for at in range(40)] if self.texts else list(range(40))
        rows = self.vectors(40)
        self.rows, self.next = dict(zip(ids, rows, strict=True)), 0 if self.texts else 40
        index = nseekfs.from_embeddings(rows, **kind, ids=ids, ann=self.ann, recall=0.9)
        if self.path is None:
            return index
        index.save(self.path)
        return nseekfs.load_index(self.path, writable=True)

    def vectors(self, count: int) -> np.ndarray[Any, Any]:
        """Rows on a grid, so that keys are often equal; some are zero. At level b1 packed bits."""
        if self.level == "b1":
            return self.random.integers(0, 4, (count, self.dims)).astype("u1")
        return self.random.integers(-2, 3, (count, self.dims)).astype("f4")

    def some_ids(self, count: int) -> list[Any]:
        """Ids that exist, existed or never did."""
        if self.texts:
            return [WORDS[self.random.integers(len(WORDS))] + str(self.random.integers(60)) for _ in range(count)]
        return [int(self.random.integers(-5, self.next + 5)) for _ in range(count)]

    def fresh(self) -> nseekfs.Index | None:
        """A new index of the rows in the order of their insertion."""
        if not self.rows:
            return None
        rows = np.array(list(self.rows.values()))
        ids = None if not self.rows else list(self.rows)
        return nseekfs.from_embeddings(rows, self.metric, level=self.level, ids=ids)  # type: ignore[arg-type]

    def add(self) -> None:
        count = int(self.random.integers(0, 12))
        rows = self.vectors(count)
        if not self.texts and self.random.random() < 0.6:
            given = self.index.add(rows)
            ids = list(range(self.next, self.next + count))
            assert given.tolist() == ids
        else:
            ids = list(dict.fromkeys(self.some_ids(count)))
            rows = rows[: len(ids)]
            if any(one in self.staged for one in ids):
                before = len(self.index)
                with pytest.raises(nseekfs.InputError, match="does not have"):
                    self.index.add(rows, ids)
                assert len(self.index) == before
                return
            assert list(self.index.add(rows, ids)) == ids
        self.take(ids, rows)

    def take(self, ids: list[Any], rows: np.ndarray[Any, Any]) -> None:
        for one, row in zip(ids, rows, strict=True):
            self.staged[one] = row
            if not self.texts:
                self.next = max(self.next, one + 1)

    def upsert(self) -> None:
        count = int(self.random.integers(0, 9))
        ids, rows = self.some_ids(count), self.vectors(count)
        self.index.upsert(rows, ids)
        last = dict(zip(ids, rows, strict=True))
        kept = [at for at, one in enumerate(ids) if one not in ids[at + 1 :]]
        for one in ids:
            self.staged.pop(one, None)
        self.take([ids[at] for at in kept], rows[kept])
        assert all((self.staged[one] == row).all() for one, row in last.items())

    def delete(self) -> None:
        share = self.random.random()
        ids = self.some_ids(int(self.random.integers(0, 9)))
        if share < 0.03:
            ids = list(self.staged)
        count = self.index.delete(ids)
        assert count == sum(self.staged.pop(one, None) is not None for one in dict.fromkeys(ids))

    def compact(self) -> None:
        if self.staged is self.rows:
            self.index.compact()

    def batch(self) -> None:
        """Several changes at once, or none of them."""
        if self.staged is not self.rows:
            return
        before, next_id = dict(self.rows), self.next
        self.staged = dict(self.rows)
        fails = self.random.random() < 0.4
        try:
            with self.index.batch():
                for _ in range(int(self.random.integers(1, 5))):
                    self.change()
                assert list(self.index.ids) == list(before)
                if fails:
                    raise KeyError("undone")
            self.rows = self.staged
        except KeyError:
            self.rows, self.next = before, next_id
        self.staged = self.rows

    def reopen(self) -> None:
        if self.path is not None and self.staged is self.rows:
            self.index.close()
            self.index = nseekfs.load_index(self.path, writable=True)

    def change(self) -> None:
        kinds: list[Callable[[], None]] = [self.add, self.upsert, self.delete, self.batch, self.compact, self.reopen]
        shares = [0.4, 0.2, 0.25, 0.08, 0.04, 0.03]
        kinds[self.random.choice(len(kinds), p=shares)]()
        self.operations += 1

    def step(self) -> None:
        self.staged = self.rows
        self.change()

    def check(self) -> None:
        """Compares everything that can be asked."""
        index, fresh = self.index, self.fresh()
        assert len(index) == len(self.rows)
        assert list(index.ids) == list(self.rows)
        probes = self.some_ids(6)
        assert [one in index for one in probes] == [one in self.rows for one in probes]
        if self.reader is not None:
            self.reader.refresh()
            assert list(self.reader.ids) == list(self.rows)
        queries = self.vectors(int(self.random.choice([1, 4, 9])))
        if fresh is None:
            assert index.search(queries, 3).indices.shape == (len(queries), 0)
            return
        assert (index[:] == fresh[:]).all()
        assert (index.get(list(self.rows)[::-1]) == fresh[::-1]).all()
        k = int(self.random.choice([1, 5, 40]))
        allowed = None
        if self.random.random() < 0.5:
            allowed = list(dict.fromkeys(one for one in self.some_ids(20) if one in self.rows))
        elif self.random.random() < 0.3:
            allowed = self.random.random(len(self.rows)) < 0.5
        metric = str(self.random.choice(self.metrics))
        for asked in [index, self.reader]:
            if asked is not None:
                exact = {} if asked.ann == "exact" else {"recall": 1.0}
                got = asked.search(queries, k, similarity=metric, filter=allowed, **exact)  # type: ignore[arg-type]
                want = fresh.search(queries, k, similarity=metric, filter=allowed)  # type: ignore[arg-type]
                assert got.indices.tolist() == want.indices.tolist()
                assert got.keys.tobytes() == want.keys.tobytes()
                assert got.scores.tobytes() == want.scores.tobytes()
                near = asked.search(queries, k, similarity=metric, filter=allowed)  # type: ignore[arg-type]
                # Whatever is visited, there are as many hits, each once, and none is better than the best.
                assert near.indices.shape == want.indices.shape
                assert all(len(set(row)) == len(row) for row in near.indices.tolist())
                better = near.keys - want.keys
                assert ((better >= 0) if metric == "euclidean" or metric == "hamming" else (better <= 0)).all()


def run(seed: int, steps: int, folder: Path | None, **options: Any) -> int:
    """Random steps; the number of operations."""
    model = Model(seed, folder, **options)
    for at in range(steps):
        model.step()
        if at % 5 == 0:
            model.check()
    model.check()
    return model.operations
