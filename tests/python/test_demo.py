"""The demo runs, its answers pass its checks, and its checks fail where an answer is wrong."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data"


def module(name):
    """A file of the examples as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_demo_shows_every_part_in_80_columns(tmp_path):
    command = [sys.executable, EXAMPLES / "demo.py", "--rows", "20000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.findall(r"^(\d)  ", done.stdout, re.MULTILINE) == list("123456")
    assert max(map(len, done.stdout.splitlines())) <= 80
    recalls = dict(re.findall(r"recall=(\S+) +([01]\.\d{3})", done.stdout))
    assert [asked for asked, had in recalls.items() if float(had) < float(asked) - 0.02] == []
    assert list(recalls) == ["0.9", "0.95", "0.99"]
    assert list(tmp_path.iterdir()) == []


def test_a_small_table_is_refused_in_words():
    done = subprocess.run([sys.executable, EXAMPLES / "demo.py", "--rows", "9"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--rows: expected at least 1000, got 9" in done.stderr


@pytest.mark.parametrize("name", ["packages", "package_queries"])
def test_every_text_has_its_embedding_of_length_1(name):
    texts = (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = np.load(DATA / f"{name}_minilm_f16.npy")
    assert len(set(texts)) == len(texts)
    assert (rows.dtype, rows.shape) == (np.float16, (len(texts), 384))
    assert np.allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-3)


def test_no_query_of_the_demo_is_a_row():
    rows, queries = (
        set((DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()) for name in ("packages", "package_queries")
    )
    assert not rows & queries


def test_the_float64_check_of_the_demo_tells_right_from_wrong():
    random = np.random.default_rng(81)
    table, queries = (random.standard_normal((count, 6)).astype(np.float32) for count in (40_000, 5))
    table[30_000] = table[3]
    queries[4] = table[3]
    scores = queries.astype(np.float64) @ table.T.astype(np.float64)
    best = np.argsort(-scores, axis=1, kind="stable")
    numpy_search = module("numpy_search")
    right = best[:, :4].copy()
    assert numpy_search.right(queries, table, right) == 5
    for block in numpy_search.BLOCKS:
        assert np.array_equal(numpy_search.search(queries[:4], table, 4, block), right[:4])
        assert np.array_equal(numpy_search.search(queries[:1], table, 4, block), right[:1])
    swapped, missing, twice = right.copy(), right.copy(), right.copy()
    swapped[0, :2] = swapped[0, 1::-1]
    missing[1, 3] = best[1, 4]
    twice[2, 1] = twice[2, 0]
    for wrong in (swapped, missing, twice):
        assert numpy_search.right(queries, table, wrong) == 4
    allowed = np.arange(len(table)) % 3 == 0
    kept = np.array([[row for row in order if allowed[row]][:4] for order in best])
    assert numpy_search.right(queries, table, kept, allowed) == 5
    assert numpy_search.right(queries, table, right, allowed) < 5


def test_a_failed_check_ends_the_demo():
    sys.path.insert(0, str(EXAMPLES))
    try:
        demo = module("demo")
    finally:
        sys.path.remove(str(EXAMPLES))
    demo.require(True, "nothing")
    with pytest.raises(SystemExit, match="FAILED: the file differs"):
        demo.require(False, "the file differs")
