"""What txtai asks of a backend for vectors, on top of an index: index, append, delete, search, count, save, load.

`Backend` is as thin as an adapter is: it translates and computes nothing. txtai itself is not needed.
"""

import os
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np

ROWS = np.random.default_rng(2).standard_normal((500, 24)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


class Backend:
    """The methods of txtai's ``ANN`` over an index."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.backend: nseekfs.Index | None = None

    def index(self, embeddings: np.ndarray[Any, Any]) -> None:
        self.backend = nseekfs.from_embeddings(embeddings, metric="dot")
        self.config["offset"] = len(embeddings)

    def append(self, embeddings: np.ndarray[Any, Any]) -> None:
        assert self.backend is not None
        first = self.config["offset"]
        self.backend.add(embeddings, ids=np.arange(first, first + len(embeddings)))
        self.config["offset"] += len(embeddings)

    def delete(self, ids: list[int]) -> None:
        assert self.backend is not None
        self.backend.delete(ids)

    def search(self, queries: np.ndarray[Any, Any], limit: int) -> list[list[tuple[int, float]]]:
        assert self.backend is not None
        found = self.backend.search(queries, limit)
        return [
            list(zip(ids, scores, strict=True))
            for ids, scores in zip(found.indices.tolist(), found.scores.tolist(), strict=True)
        ]

    def count(self) -> int:
        assert self.backend is not None
        return len(self.backend)

    def save(self, path: Path) -> None:
        assert self.backend is not None
        self.backend.save(path)

    def load(self, path: Path) -> None:
        loaded = nseekfs.load_index(path)
        self.backend = nseekfs.from_embeddings(loaded[:], metric="dot", ids=loaded.ids)
        loaded.close()

    def close(self) -> None:
        assert self.backend is not None
        self.backend.close()
        self.backend = None


def made(rows: int = 300) -> Backend:
    backend = Backend({})
    backend.index(ROWS[:rows])
    return backend


def test_index_search_and_count():
    backend = made()
    results = backend.search(ROWS[:5], 7)
    best = np.argsort(-(ROWS[:300].astype("f8") @ ROWS[:5].T.astype("f8")), axis=0, kind="stable")[:7].T
    assert [[one for one, _ in result] for result in results] == best.tolist()
    assert all(type(one) is int and type(score) is float for result in results for one, score in result)
    assert backend.count() == 300
    assert len(backend.search(ROWS[:1], 1000)[0]) == 300


def test_append_counts_from_the_offset_and_deleted_rows_do_not_come_back():
    backend = made()
    backend.delete([0, 299, 5000, -1])
    backend.append(ROWS[300:310])
    assert backend.config["offset"] == 310
    assert backend.count() == 308
    assert backend.search(ROWS[300:301], 1)[0][0][0] == 300
    found = [one for one, _ in backend.search(ROWS[:1], 400)[0]]
    assert sorted(found) == [*range(1, 299), *range(300, 310)]
    backend.delete(found)
    assert backend.count() == 0
    assert backend.search(ROWS[:2], 3) == [[], []]
    backend.append(ROWS[:1])
    assert backend.search(ROWS[:1], 3)[0][0][0] == 310


def test_a_smaller_offset_of_the_configuration_takes_its_ids_again():
    backend = made(3)
    backend.delete([2])
    backend.config["offset"] = 2
    backend.append(ROWS[7:8])
    assert backend.search(ROWS[7:8], 1)[0][0][0] == 2


def test_save_writes_one_file_and_load_after_close_gives_it_back(tmp_path):
    backend = made()
    backend.delete(range(10))
    path = tmp_path / "embeddings"
    backend.save(path)
    before = backend.search(ROWS[:9], 6)
    backend.close()
    backend.load(path)
    os.remove(path)
    assert backend.search(ROWS[:9], 6) == before
    assert os.listdir(tmp_path) == []
    backend.append(ROWS[300:302])
    assert backend.count() == 292
    assert backend.search(ROWS[301:302], 1)[0][0][0] == 301
    backend.index(ROWS[:4])
    assert (backend.count(), backend.config["offset"]) == (4, 4)


class Bits(Backend):
    """The same of packed bits, whose score is the share of equal ones."""

    def index(self, embeddings: np.ndarray[Any, Any]) -> None:
        self.backend = nseekfs.from_embeddings(embeddings, level="b1")
        self.config["offset"] = len(embeddings)

    def search(self, queries: np.ndarray[Any, Any], limit: int) -> list[list[tuple[int, float]]]:
        assert self.backend is not None
        found = self.backend.search(queries, limit)
        scores = 1 - found.keys / self.backend.dims
        return [list(zip(*each, strict=True)) for each in zip(found.indices.tolist(), scores.tolist(), strict=True)]


def test_hamming_scores_are_shares_of_equal_bits():
    codes = np.random.default_rng(4).integers(0, 256, (200, 32), dtype=np.uint8)
    backend = Bits({})
    backend.index(codes[:150])
    backend.append(codes[150:])
    backend.delete([3])
    assert backend.count() == 199
    table = np.unpackbits(codes, axis=1).astype(int)
    for query, result in zip(codes[:9], backend.search(codes[:9], 12), strict=True):
        wanted = 1 - (table != np.unpackbits(query)).sum(axis=1) / 256
        wanted[3] = -1
        best = np.argsort(-wanted, kind="stable")[:12]
        assert result == [(int(row), float(wanted[row])) for row in best]
