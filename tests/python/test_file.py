"""A damaged file is refused: every flipped byte, every truncation, every file of another format."""

import os
from typing import get_args

import nseekfs
import numpy as np
import pytest
from nseekfs import FormatError, _typing

LEVELS = get_args(_typing.Level)
ROWS = np.random.default_rng(51).standard_normal((5, 8)).astype(np.float32)


@pytest.fixture(params=LEVELS)
def whole(request, tmp_path):
    """The bytes of a small file of each kind of index."""
    path = nseekfs.create_index(ROWS, tmp_path, level=request.param)
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "changed.bin")


def write(path, content):
    """Write a new file each time: overwriting would wait for the disk."""
    if os.path.exists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("mode", get_args(_typing.Mode))
def test_every_flipped_byte_is_refused(whole, path, mode):
    for place in range(len(whole)):
        for flip in (0x01, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= flip
            write(path, changed)
            with pytest.raises(FormatError, match=r"changed\.bin: "):
                nseekfs.load_index(path, mode=mode, verify="full")


def test_a_flipped_byte_passes_the_header_only_where_data_is(whole, path):
    """`verify` finds damage that ``verify="header"`` does not, and a search of the damaged index does not crash."""
    header = None
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x01
        write(path, changed)
        try:
            index = nseekfs.load_index(path, verify="header")
        except FormatError:
            assert header is None, "the header ends before the data begins"
            continue
        header = header or place
        assert index.search(ROWS).indices.shape == (5, 5)
        with pytest.raises(FormatError):
            index.verify()
    assert header >= 192


@pytest.mark.parametrize("method", get_args(_typing.Method))
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_an_unverified_row_with_nan_is_refused_by_a_search(tmp_path, method, metric):
    path = nseekfs.create_index(ROWS, tmp_path)
    with open(path, "rb") as file:
        whole = file.read()
    changed = whole.replace(ROWS[2, 3].tobytes(), np.float32(np.nan).tobytes(), 1)
    write(path, changed)
    index = nseekfs.load_index(path, verify="header")
    for queries in (ROWS, np.vstack([ROWS, 0 * ROWS]), ROWS[:1]):
        with pytest.raises(FormatError, match="verify"):
            index.search(queries, 5, similarity=metric, method=method)
    assert index.search(ROWS, 5, similarity=metric, method=method, filter=[0, 1, 3]).indices.shape == (5, 3)


@pytest.mark.parametrize("verify", get_args(_typing.Verify))
@pytest.mark.parametrize("mode", get_args(_typing.Mode))
def test_every_truncation_and_every_addition_is_refused(whole, path, mode, verify):
    for length in range(len(whole)):
        write(path, whole[:length])
        with pytest.raises(FormatError, match=r"changed\.bin: "):
            nseekfs.load_index(path, mode=mode, verify=verify)
    for more in (b"\0", b"\n", b"\0" * 64, whole):
        write(path, whole + more)
        with pytest.raises(FormatError, match="F8"):
            nseekfs.load_index(path, mode=mode, verify=verify)


def test_bytes_in_another_order_are_refused(whole, path):
    for size in (64, 8):
        parts = [whole[i : i + size] for i in range(0, len(whole), size)]
        for i in range(len(parts) - 1):
            if parts[i] == parts[i + 1]:
                continue
            swapped = [*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :]]
            write(path, b"".join(swapped))
            with pytest.raises(FormatError):
                nseekfs.load_index(path, verify="full")


def test_noise_is_refused(path):
    random = np.random.default_rng(52)
    for length in (1, 7, 8, 11, 12, 63, 64, 191, 192, 193, 1000, 5000):
        write(path, random.bytes(length))
        with pytest.raises(FormatError):
            nseekfs.load_index(path)


@pytest.mark.parametrize(("level", "most"), [("f64", 2.01), ("f32", 1.01), ("f16", 0.51), ("f8", 0.27)])
def test_a_level_takes_the_space_that_it_says(tmp_path, level, most):
    rows = np.random.default_rng(53).standard_normal((2000, 384)).astype(np.float32)
    path = nseekfs.create_index(rows, tmp_path, level=level, codes=False)
    assert os.path.getsize(path) <= most * rows.nbytes + 8 * len(rows)
    assert nseekfs.load_index(path).nbytes <= os.path.getsize(path)


@pytest.mark.parametrize("level", ["f64", "f32", "f16"])
def test_codes_add_a_quarter_of_float32_rows_and_their_axes(tmp_path, level):
    rows = np.random.default_rng(55).standard_normal((24_000, 96)).astype(np.float32)
    plain, coded = (
        os.path.getsize(nseekfs.create_index(rows, tmp_path / name, level=level, codes=codes))
        for name, codes in (("plain", False), ("coded", True))
    )
    axes = 4 * 96 * (96 + 2)
    assert 0.25 * rows.nbytes + axes < coded - plain < 0.25 * rows.nbytes + axes + 10 * len(rows) + 1024
    for mode in ("mmap", "ram"):
        with nseekfs.load_index(tmp_path / "coded" / f"index_{level}.bin", mode=mode, verify="full") as index:
            fast, full = (index.query(rows[5], top_k=10, method=method) for method in ("auto", "simd"))
            assert plain < index.nbytes < coded
            assert fast == full


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "index_f32.bin"
    index = nseekfs.from_embeddings(ROWS, output_dir=tmp_path)
    before = path.read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(b"")
    with pytest.raises(OSError, match="folder"):
        index.save(tmp_path / "folder")
    with pytest.raises(nseekfs.InputError):
        nseekfs.create_index(ROWS * np.nan, tmp_path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["folder", "index_f32.bin"]


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe.bin"
    index = nseekfs.from_embeddings(ROWS)
    index.save(name)
    again = nseekfs.load_index(name)
    assert os.fsencode(again.path) == name
    for one in (index, again):
        repr(one).encode()
        assert r"\udcff\udcfe.bin" in repr(one)
    assert again.query(ROWS[0]) == index.query(ROWS[0])


def test_damage_that_no_header_shows_is_named_by_save_recall_and_tune(tmp_path):
    """The copy would have fresh checksums, and the rows are not queries of the caller."""
    rows = np.random.default_rng(8).standard_normal((3000, 16), dtype=np.float32)
    path = nseekfs.create_index(rows, tmp_path, ann="ivf")
    with open(path, "rb") as file:
        whole = file.read()
    write(path, whole.replace(rows.tobytes(), np.full_like(rows, np.nan).tobytes(), 1))
    index = nseekfs.load_index(path, verify="header")
    other = tmp_path / "other.bin"
    other.write_bytes(b"as it was")
    with pytest.raises(FormatError, match="F17"):
        index.save(other)
    assert other.read_bytes() == b"as it was"
    for measure in (index.recall, index.tune):
        with pytest.raises(FormatError, match="F17"):
            measure()
