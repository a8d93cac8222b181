"""Answers have the bits of the reference for every metric, level, kernel, method, thread count and batch.

Run as a program, this file compares all combinations with the kernel that NSEEKFS_KERNEL names. The tests run it once
for every kernel that the CPU has.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import nseekfs
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

METRICS = ("cosine", "dot", "euclidean")
LEVELS = ("f64", "f32", "f16", "f8")
METHODS = ("auto", "simd", "scalar")
KERNELS = nseekfs.simd_info()["available"]
DATA = Path(__file__).parents[2] / "examples" / "data"


def gaussian():
    random = np.random.default_rng(1)
    return random.standard_normal((3000, 48)), random.standard_normal((37, 48))


def duplicates():
    random = np.random.default_rng(2)
    few = random.integers(-3, 4, (7, 24)) / 8
    return few[random.integers(0, 7, 1500)], few[random.integers(0, 7, 17)]


def lengths():
    random = np.random.default_rng(3)
    rows, queries = random.standard_normal((1000, 33)), random.standard_normal((33, 33))
    rows *= np.exp(random.uniform(-8, 8, (1000, 1)))
    return rows, queries * np.exp(random.uniform(-8, 8, (33, 1)))


def zeros():
    random = np.random.default_rng(4)
    rows = random.integers(-1, 2, (600, 5)) * np.where(random.random((600, 5)) < 0.5, -0.0, 0.5)
    return rows, np.array([[0.0] * 5, [-0.0] * 5, [1.0, 0, 0, 0, 0], [-1.0, 1, -1, 1, 0]])


def one_way():
    """Rows whose scores are equal in float32, in descending order of their float64 scores."""
    random = np.random.default_rng(5)
    rows = 1 + np.linspace(0, 1e-6, 800)[::-1, None] * random.random((800, 64))
    return rows, 1 + 1e-3 * random.standard_normal((20, 64))


def every_dims():
    random = np.random.default_rng(6)
    for dims in (*range(1, 66), 4097):
        yield random.standard_normal((41, dims)), random.standard_normal((3, dims))


def real():
    """The embeddings of 400 short texts and of questions about them."""
    return np.load(DATA / "texts_minilm_f16.npy"), np.load(DATA / "questions_minilm_f16.npy")


def differences(rows, queries, level, metrics=METRICS, methods=METHODS, threads=(1, 2), **built):
    """The calls whose answer by an index of `rows` differs from the reference."""
    index = nseekfs.from_embeddings(rows, level=level, **built)
    table = reference.stored(rows, level)
    wrong = []
    for metric in metrics:
        truth = reference.top(queries, table, len(rows), metric)
        for k, method, count in itertools.product((1, 10, len(rows), len(rows) + 5), methods, threads):
            how = {"similarity": metric, "method": method, "threads": count}
            expected = [part[:, :k] for part in truth]
            if not same(reference.parts(index.search(queries, k, **how)), expected):
                wrong.append((level, k, how, "batch"))
            if not same(reference.parts(index.search(queries[:1], k, **how)), [part[:1] for part in expected]):
                wrong.append((level, k, how, "batch of one"))
            for query, *answer in zip(queries[-2:], *(part[-2:] for part in expected)):
                hits = index.query(query, k, **how)
                if not same(reference.parts(hits), answer):
                    wrong.append((level, k, how, "single"))
    return wrong


def same(found, expected):
    """Whether two (indices, scores, keys) agree in dtype, shape and every bit."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(found, (expected[0].astype(np.int64), *expected[1:]), strict=True)
    )


def sweep():
    """The calls that differ, for every data set and level."""
    wrong = []
    for level in LEVELS:
        for make in (gaussian, duplicates, lengths, zeros, one_way, real):
            wrong += [(make.__name__, *call) for call in differences(*make(), level)]
        for rows, queries in every_dims():
            wrong += [(rows.shape[1], *call) for call in differences(rows, queries, level)]
    return wrong


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_gives_the_bits_of_the_reference(kernel):
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "NSEEKFS_KERNEL": kernel},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout == f"{kernel}: 0 differences\n"


def test_the_kernels_named_in_the_environment_are_available():
    wanted = os.environ.get("NSEEKFS_EXPECT_KERNELS", "scalar,portable").split(",")
    assert set(wanted) <= set(KERNELS)


def test_a_kernel_that_the_cpu_lacks_is_an_error():
    code = "import nseekfs; nseekfs.from_embeddings([[1.0]]).query([1.0])"
    env = {**os.environ, "NSEEKFS_KERNEL": "abacus"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "InputError" in done.stderr
    assert "NSEEKFS_KERNEL" in done.stderr
    assert "abacus" in done.stderr


@pytest.mark.parametrize("metric", METRICS)
def test_a_large_table_agrees_with_the_reference(metric):
    random = np.random.default_rng(7)
    rows = random.standard_normal((60_000, 64), dtype=np.float32)
    rows[1::2] = rows[::2]
    queries = random.standard_normal((20, 64), dtype=np.float32)
    index = nseekfs.from_embeddings(rows, metric)
    expected = reference.top(queries, rows, 25, metric)
    assert same(reference.parts(index.search(queries, 25)), expected)
    assert same(reference.parts(index.search(queries[:1], 25)), [part[:1] for part in expected])


@pytest.mark.parametrize("metric", METRICS)
def test_the_reference_proposes_no_fewer_rows_than_it_needs(metric):
    rows, queries = lengths()
    rows = np.tile(rows, (3, 1))  # enough for proposals, each with its ties
    for allowed in (None, np.flatnonzero(np.arange(len(rows)) % 4)):
        everything = reference.top(queries, rows, len(rows), metric, allowed)
        assert same(reference.top(queries, rows, 31, metric, allowed), [part[:, :31] for part in everything])


finite = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2**-149, 2**-126, 0.5])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 40), st.integers(1, 70), st.sampled_from(LEVELS))
def test_any_numbers_give_the_bits_of_the_reference(data, count, dims, level):
    rows = data.draw(arrays(np.float32, (count, dims), elements=finite, fill=finite))
    queries = data.draw(arrays(np.float32, (2, dims), elements=finite, fill=finite))
    assert differences(rows, queries, level, methods=("auto",), threads=(2,)) == []


@settings(max_examples=40, deadline=None, derandomize=True)
@given(arrays(np.float64, (9, 3), elements=st.floats(-1e18, 1e18)))
def test_any_float64_gives_the_bits_of_the_reference(rows):
    assert differences(rows, rows[:2], "f64", methods=("auto",), threads=(1,)) == []


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_dtype_is_rounded_as_numpy_rounds(dtype, level):
    random = np.random.default_rng(8)
    rows = (random.random((50, 6)) * 100).astype(dtype)
    if np.dtype(dtype).itemsize >= 4 and level in ("f32", "f64"):
        rows[::2] += np.array(2**31 - 99, dtype)
    assert differences(rows, rows[:3], level, methods=("auto",), threads=(1,)) == []


def main():
    wrong = sweep()
    print(*wrong[:20], sep="\n", end="\n" if wrong else "")
    print(f"{nseekfs.simd_info()['used']}: {len(wrong)} differences")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
