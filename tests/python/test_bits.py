"""Level b1: answers are those of numpy's unpacked bits, for every kind of input, batch, filter and change."""

import copy
import pickle

import living_model
import nseekfs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nseekfs import FormatError, InputError, InputTypeError

RANDOM = np.random.default_rng(15)
ROWS = RANDOM.integers(0, 256, (700, 9), dtype=np.uint8)
QUERIES = np.concatenate([ROWS[5:8], RANDOM.integers(0, 256, (14, 9), dtype=np.uint8)])


def best(queries, rows, k, allowed=None):
    """Positions and distances of the nearest rows, from unpacked bits; equal ones by position."""
    q, x = np.unpackbits(queries, axis=-1), np.unpackbits(rows, axis=-1)
    ids = np.arange(len(rows)) if allowed is None else np.unique(allowed)
    found = (q[:, None, :] != x[None, ids, :]).sum(-1)
    order = np.argsort(found, axis=1, kind="stable")[:, :k]
    return ids[order], np.take_along_axis(found, order, axis=1)


def check(found, want):
    ids, distances = want
    assert np.array_equal(found.indices, ids)
    assert found.keys.dtype == np.float64
    assert np.array_equal(found.keys, distances)
    assert found.scores.dtype == np.float32
    assert np.array_equal(found.scores, distances)


@pytest.fixture(scope="module")
def index():
    return nseekfs.from_embeddings(ROWS, level="b1")


def test_an_index_of_bits_says_what_it_is(index):
    assert (index.level, index.metric, index.dims, index.rows) == ("b1", "hamming", 72, 700)
    assert (index.codes, index.normalized, index.ann.kind, index.nbytes) == (False, False, "exact", ROWS.nbytes)


@pytest.mark.parametrize("k", [1, 10, 699, 5000])
@pytest.mark.parametrize("method", ["auto", "simd", "scalar"])
def test_batches_and_single_queries_are_the_oracle(index, k, method):
    for threads in (1, 3):
        check(index.search(QUERIES, k, method=method, threads=threads), best(QUERIES, ROWS, k))
    for query in QUERIES:
        hits = index.query(query, k, method=method)
        check(hits, [part[0] for part in best(query[None], ROWS, k)])
        proof = hits.certificate
        assert proof.exact
        assert (proof.rows, proof.refined, proof.bytes_read) == (700, 700, ROWS.nbytes)


@pytest.mark.parametrize("allowed", [[3], list(range(0, 700, 3)), list(range(100, 600)), [699, 0, 0]])
def test_filters_restrict_the_rows(index, allowed):
    mask = np.isin(np.arange(700), allowed)
    for filter_ in (allowed, mask):
        check(index.search(QUERIES, 20, filter=filter_), best(QUERIES, ROWS, 20, allowed))
        check(index.search(QUERIES[0], 20, filter=filter_), [part[0] for part in best(QUERIES[:1], ROWS, 20, allowed)])


def test_max_distance_is_a_number_of_bits(index):
    ids, distances = (part[0] for part in best(QUERIES[:1], ROWS, 700))
    for limit in (-1, 0, 25, 25.5, np.float64(72)):
        hits = index.query(QUERIES[0], 700, max_distance=limit)
        assert hits.indices.tolist() == ids[distances <= limit].tolist()
    with pytest.raises(InputError, match=r"^min_score: expected max_distance"):
        index.query(QUERIES[0], min_score=1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_dtype_alone_decides_what_bits_are(data):
    rows, dims = data.draw(st.integers(1, 20)), 8 * data.draw(st.integers(1, 20))
    bits = data.draw(arrays(np.bool_, (rows, dims)))
    packed = np.packbits(bits, axis=1)
    k = data.draw(st.integers(1, 25))
    want = best(packed, packed, k)
    kinds = {
        "packed": packed,
        "fortran": np.asfortranarray(packed),
        "bool": bits,
        "strided": np.repeat(bits, 2, axis=1)[:, ::2],
        "lists": bits.tolist(),
        "int64": bits.astype(np.int64) - data.draw(st.sampled_from([0, 0, 7])) * ~bits,
        "int8": bits.astype(np.int8),
        "uint16": bits.astype(np.uint16),
        "float16": np.where(bits, 1e-7, -0.0).astype(np.float16),
        "float32": np.where(bits, 1e-45, -3.4e38).astype(np.float32),
        "float64": np.where(bits, 1e308, 0.0),
        "longdouble": np.where(bits, 1.0, -1.0).astype(np.longdouble),
        "big endian": np.where(bits, 2.0, -2.0).astype(">f4"),
    }
    for kind, given_rows in kinds.items():
        index = nseekfs.from_embeddings(given_rows, level="b1")
        assert index.dims == dims, kind
        assert np.array_equal(index[:], packed), kind
        check(index.search(given_rows, k), want)
        check(index.search(np.asarray(given_rows)[0], k), [part[0] for part in want])


def test_iterators_of_blocks_of_any_kind_are_rows():
    bits = np.unpackbits(ROWS, axis=1).astype(bool)
    index = nseekfs.from_embeddings(iter([ROWS[:300], bits[300:301], bits[301:].astype("f4") - 0.5]), level="b1")
    assert np.array_equal(index[:], ROWS)
    index.add(iter([ROWS[:3], bits[3:5]]))
    assert np.array_equal(index[700:], ROWS[:5])
    with pytest.raises(InputError, match=r"^embeddings: expected blocks of bits or blocks of numbers"):
        index.add(iter([ROWS[:3], bits[3:5].astype("f4")]))


def test_rows_come_back_packed(index):
    assert np.array_equal(index[7], ROWS[7])
    assert index[7].dtype == np.uint8
    assert np.array_equal(index[[9, 3]], ROWS[[9, 3]])
    assert np.array_equal(index[-3:], ROWS[-3:])
    assert np.array_equal(np.array(list(index)), ROWS)
    assert np.array_equal(index[np.arange(700) % 2 == 0], ROWS[::2])


@pytest.mark.parametrize("mode", ["mmap", "ram"])
def test_files_copies_and_pickles_answer_alike(tmp_path, mode):
    want = best(QUERIES, ROWS, 10)
    path = nseekfs.create_index(ROWS, tmp_path, base_name="bits", level="b1", ids=[str(row) for row in range(700)])
    assert path.endswith("bits_b1.bin")
    with nseekfs.load_index(path, mode=mode, verify="full") as index:
        index.verify()
        for same in (index, pickle.loads(pickle.dumps(index)), copy.copy(index)):
            assert same.search(QUERIES, 10).indices.astype(int).tolist() == want[0].tolist()
    memory = pickle.loads(pickle.dumps(nseekfs.from_embeddings(ROWS, level="b1")))
    check(memory.search(QUERIES, 10), want)
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(bytes([file.read(1)[0] ^ 1]))
    with pytest.raises(FormatError):
        nseekfs.load_index(path)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_changing_index_answers_as_a_fresh_one(tmp_path, on_disk):
    random = np.random.default_rng(on_disk)
    path = tmp_path / "live.bin" if on_disk else None
    index = nseekfs.empty(level="b1", path=path)
    model = {}
    for step in range(60):
        rows = random.integers(0, 256, (int(random.integers(1, 30)), 5), dtype=np.uint8)
        kind = random.choice(["add", "upsert", "delete", "compact"], p=[0.5, 0.2, 0.25, 0.05])
        some = [int(one) for one in random.permutation(list(model))[: len(rows)]] if model else []
        if kind == "add" or not some:
            given_rows = rows if step % 2 else np.unpackbits(rows, axis=1).astype(bool)
            model.update(zip(index.add(given_rows).tolist(), rows, strict=True))
        elif kind == "upsert":
            index.upsert(rows[: len(some)], some)
            for one, row in zip(some, rows, strict=False):
                model.pop(one)
                model[one] = row
        elif kind == "delete":
            assert index.delete(some) == len(some)
            for one in some:
                model.pop(one)
        else:
            index.compact()
        if model and step % 7 == 0:
            ids, table = np.array(list(model)), np.array(list(model.values()))
            positions, distances = best(rows, table, 6)
            for asked in [index, *([nseekfs.load_index(path, verify="full")] if on_disk else [])]:
                found = asked.search(rows, 6)
                assert np.array_equal(found.indices, ids[positions])
                assert np.array_equal(found.keys, distances)
                assert np.array_equal(asked[:], table)
                assert asked.ids.tolist() == list(model)
    index.delete(list(model))
    assert index.search(rows, 3).indices.shape == (len(rows), 0)
    index.add(rows)
    check(index.search(rows[0], 1), (index.ids[:1], [0]))


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_changes_give_what_a_fresh_index_of_bits_gives(tmp_path, seed, texts):
    for folder in (None, tmp_path):
        assert living_model.run(seed, 150, folder, level="b1", texts=texts) >= 150


def test_measured_recall_and_explanations_know_bits(index):
    assert index.recall(QUERIES).recall == 1.0
    assert index.recall().recall == 1.0
    assert index.explain_miss(QUERIES[0], 5).found
    missed = index.explain_miss(QUERIES[0], int(best(QUERIES[:1], ROWS, 700)[0][0, -1]))
    assert not missed.found
    assert missed.key > missed.kth_key


def test_no_queries_find_nothing(index):
    for none in (np.empty((0, 9), np.uint8), np.empty((0, 72), bool), []):
        assert index.search(none, 3).indices.shape == (0, 3)


FLOATS = np.ones((4, 16), np.float32)
BAD = {
    "bools that fill no byte": (
        lambda i: nseekfs.from_embeddings(np.ones((3, 13), bool), level="b1"),
        "multiple of 8 13",
    ),
    "signs that fill no byte": (lambda i: nseekfs.from_embeddings(np.ones((3, 13)), level="b1"), "multiple of 8 13"),
    "NaN": (lambda i: nseekfs.from_embeddings(FLOATS * np.nan, level="b1"), "embeddings finite NaN row 0 column 0"),
    "infinity": (lambda i: i.query(np.full(72, np.inf)), "query finite inf"),
    "query of other bits": (lambda i: i.query(ROWS[0, :8]), "query 72 values 64"),
    "added rows of other bits": (lambda i: nseekfs.from_embeddings(ROWS, level="b1").add(ROWS[:, :8]), "72 values 64"),
    "dims that fill no byte": (lambda i: nseekfs.empty(12, level="b1"), "dims multiple of 8 12"),
    "metric of other levels": (
        lambda i: nseekfs.from_embeddings(ROWS, "cosine", level="b1"),
        "metric hamming b1 cosine",
    ),
    "metric of an empty index": (lambda i: nseekfs.empty(8, "dot", level="b1"), "metric hamming b1 dot"),
    "similarity of other levels": (lambda i: i.query(ROWS[0], similarity="l2"), "similarity hamming b1 euclidean"),
    "hamming of floats": (lambda i: nseekfs.from_embeddings(FLOATS, "hamming"), "metric cosine signs level b1 f32"),
    "hamming of an empty index": (lambda i: nseekfs.empty(8, "hamming", level="f16"), "metric cosine level b1 f16"),
    "similarity of bits": (
        lambda i: nseekfs.from_embeddings(FLOATS).search(FLOATS, similarity="hamming"),
        "similarity cosine signs level b1 f32",
    ),
    "ann": (lambda i: nseekfs.from_embeddings(ROWS, level="b1", ann="ivf"), "ann None b1 exactly"),
    "automatic ann": (lambda i: nseekfs.from_embeddings(ROWS, level="b1", ann=True), "ann None b1 exactly"),
    "unit bits": (lambda i: nseekfs.from_embeddings(ROWS, level="b1", normalized=True), "normalized None b1 True"),
    "effort": (lambda i: i.query(ROWS[0], effort=nseekfs.Effort(nprobe=3)), "nprobe ann"),
    "tuning": (lambda i: i.tune(), "ann exact"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_bits_cannot_do_is_refused_by_name(index, name):
    call, words = BAD[name]
    with pytest.raises(InputError) as caught:
        call(index)
    assert all(word in str(caught.value) for word in words.split()), caught.value


def test_what_is_no_number_is_refused(index):
    for bad in (np.full((2, 8), 1j), np.array([["a"] * 8]), np.full((2, 8), None)):
        with pytest.raises(InputTypeError, match=r"^embeddings: expected an array of real numbers"):
            nseekfs.from_embeddings(bad, level="b1")
    with pytest.raises(InputTypeError, match=r"^embeddings: expected an array of real numbers"):
        nseekfs.from_embeddings(np.ones((2, 8), bool))
