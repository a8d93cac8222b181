"""Tensors, columns of tables and iterators: taken as they come, and never widened whole."""

import nseekfs
import numpy as np
import producers
import pytest
from nseekfs.cluster import KMeans
from reference import parts
from test_exact import same

ROWS = np.random.default_rng(43).standard_normal((60, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def index():
    return nseekfs.from_embeddings(ROWS)


def test_bfloat16_is_widened_a_block_at_a_time(index, monkeypatch):
    coarse = (ROWS.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    given = producers.Tensor(coarse, "torch.bfloat16", requires_grad=True)
    monkeypatch.setattr("nseekfs._arrays.BLOCK_BYTES", 10 * 8 * 8)
    for level in ("f64", "f32", "f16"):
        built = nseekfs.from_embeddings(given, level=level)
        assert np.array_equal(built[:], nseekfs.from_embeddings(coarse, level=level)[:])
    assert max(given.widened) == 10 * 8 * 4
    assert index.query(given[3]) == index.query(coarse[3])
    assert same(parts(index.search(given, 60)), parts(index.search(coarse, 60)))
    rows = [producers.Tensor(row, "torch.bfloat16") for row in coarse]
    assert nseekfs.from_embeddings(rows)[:].tobytes() == coarse.tobytes()


def test_bfloat16_of_numpy_is_widened(index):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    given = ROWS.astype(bfloat16)
    coarse = given.astype(np.float32)
    assert nseekfs.from_embeddings(given)[:].tobytes() == coarse.tobytes()
    assert np.array_equal(nseekfs.from_embeddings(given, level="f16")[:], coarse.astype(np.float16))
    assert same(parts(index.search(given, 60)), parts(index.search(coarse, 60)))


@pytest.mark.parametrize("block_bytes", [500, 8 << 20])
def test_an_iterator_gives_blocks_or_rows(monkeypatch, block_bytes):
    monkeypatch.setattr("nseekfs._arrays.BLOCK_BYTES", block_bytes)

    def reusing():
        room = np.empty((7, 8), np.float32)
        for start in range(0, 60, 7):
            count = min(7, 60 - start)
            room[:count] = ROWS[start : start + 7]
            yield room[:count]

    mixed = [ROWS[:0], ROWS[:3], ROWS[3:9].astype(np.float64), ROWS[9].tolist(), ROWS[10:12].tolist(), ROWS[12:]]
    for blocks in (iter(ROWS), reusing(), iter(mixed), map(producers.Tensor, ROWS), iter([ROWS])):
        assert nseekfs.from_embeddings(blocks)[:].tobytes() == ROWS.tobytes()
    assert KMeans(2).fit(reusing()).labels.shape == (60,)


WRONG = {
    "ids": [1.0],
    "level": "f4",
    "metric": "manhattan",
    "ann": "hnsw",
    "recall": 1.5,
    "method": "fast",
    "normalized": "yes",
    "codes": 1,
    "base_name": "a/b",
    "seed": -1,
    "threads": 0,
    "progress": 3,
}
"""A wrong value of every option of a build."""


@pytest.mark.parametrize("option", WRONG)
def test_a_refused_option_leaves_an_iterator_of_rows_untouched(option, tmp_path):
    blocks = iter([ROWS[:30], ROWS[30:]])
    options = {"ann": "ivf", option: WRONG[option]}
    with pytest.raises(nseekfs.InputError, match=option):
        nseekfs.from_embeddings(blocks, **options)
    with pytest.raises(nseekfs.InputError, match=option):
        nseekfs.create_index(blocks, tmp_path / "new", **options)
    with pytest.raises(nseekfs.InputError, match="output_dir"):
        nseekfs.create_index(blocks, "")
    assert list(tmp_path.iterdir()) == []
    assert nseekfs.from_embeddings(blocks)[:].tobytes() == ROWS.tobytes()


def test_every_option_of_a_build_has_a_wrong_value_here():
    assert set(WRONG) == set(nseekfs.build.BuildOptions.__annotations__)


LIBRARIES = {
    "pandas Series": ("pandas", lambda m, rows: m.Series(list(rows))),
    "pandas Series, another index": (
        "pandas",
        lambda m, rows: m.Series(list(rows), index=range(90, 90 - len(rows), -1)),
    ),
    "pandas Series of lists": ("pandas", lambda m, rows: m.Series(rows.tolist())),
    "pandas DataFrame": ("pandas", lambda m, rows: m.DataFrame(rows)),
    "pandas DataFrame of vectors": ("pandas", lambda m, rows: m.DataFrame({"e": list(rows)})),
    "polars List": ("polars", lambda m, rows: m.Series("e", rows.tolist(), dtype=m.List(m.Float32))),
    "polars Array": ("polars", lambda m, rows: m.Series("e", rows, dtype=m.Array(m.Float32, 8))),
    "polars DataFrame of vectors": ("polars", lambda m, rows: m.DataFrame({"e": rows.tolist()})),
    "pyarrow FixedSizeList": ("pyarrow", lambda m, rows: fixed(m, rows)),
    "pyarrow slice": ("pyarrow", lambda m, rows: fixed(m, np.vstack([rows, rows]))[len(rows) :]),
    "pyarrow List": ("pyarrow", lambda m, rows: m.array(rows.tolist(), m.list_(m.float32()))),
    "pyarrow ChunkedArray": ("pyarrow", lambda m, rows: m.chunked_array([fixed(m, rows[:7]), fixed(m, rows[7:])])),
    "pyarrow Table": ("pyarrow", lambda m, rows: m.table({"e": fixed(m, rows)})),
    "datasets": ("datasets", lambda m, rows: m.Dataset.from_dict({"e": rows.tolist()})["e"]),
    "torch": ("torch", lambda m, rows: m.tensor(rows, requires_grad=True)),
    "torch Embedding": ("torch", lambda m, rows: m.nn.Embedding.from_pretrained(m.tensor(rows), freeze=False).weight),
}
"""What is tried where it is installed."""


def fixed(pyarrow, rows):
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), rows.shape[1])


@pytest.mark.parametrize("form", LIBRARIES)
def test_columns_and_tensors_of_libraries_are_taken(form, index):
    library, make = LIBRARIES[form]
    given = make(pytest.importorskip(library), ROWS)
    built = nseekfs.from_embeddings(given)
    assert built[:].tobytes() == ROWS.tobytes()
    assert same(parts(built.search(given, 60)), parts(index.search(ROWS, 60)))
