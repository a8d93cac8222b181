"""A mapped index may be larger than memory: a query reads codes and the pages of a few rows."""

import ctypes
import mmap
import os

import nseekfs
import numpy as np
import pytest

ROWS, DIMS = 60_000, 128
FAR = 4 * DIMS * ROWS - (16 << 20)  # bytes of rows that reading ahead in the codes, which follow them, does not reach


def pages_in_memory(path):
    """For each page of the file, 1 if it is in memory, else 0."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        held = np.zeros(-(-len(pages) // mmap.PAGESIZE), np.uint8)
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (np.frombuffer(pages, np.uint8), held)]
        assert ctypes.CDLL(None).mincore(addresses[0], ctypes.c_size_t(len(pages)), addresses[1]) == 0
    return held & 1


def forget(path):
    """Drop the pages of the file from memory."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if pages_in_memory(path).any():
        pytest.skip("temporary files are kept in memory here, or mapped by others")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    random = np.random.default_rng(91)
    rows = random.standard_normal((ROWS, 12)) @ random.standard_normal((12, DIMS))
    return nseekfs.create_index(rows, tmp_path_factory.mktemp("larger"))


def test_opening_a_file_reads_its_header_and_no_rows(path):
    forget(path)
    assert nseekfs.load_index(path, verify="header").codes
    assert pages_in_memory(path).sum() <= 4


def test_a_query_reads_the_pages_of_few_rows(path):
    queries = nseekfs.load_index(path, verify="header")[::20_000] + np.float32(0.1)
    expected = nseekfs.load_index(path, mode="ram").search(queries, 5, method="simd")
    forget(path)
    index = nseekfs.load_index(path, verify="header")
    found = [index.search(query, 5) for query in queries]
    held = pages_in_memory(path)[: FAR // mmap.PAGESIZE].sum()
    assert np.array_equal(np.stack([hits.indices for hits in found]), expected.indices)
    assert np.array_equal(np.stack([hits.keys for hits in found]), expected.keys)
    assert 0 < held <= 64 * len(queries)
