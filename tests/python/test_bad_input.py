"""Bad input raises a typed error whose message names the fault; every supported form of input is accepted."""

import array
import os

import nseekfs
import numpy as np
import producers
import pytest
from nseekfs import FormatError, InputError, InputTypeError
from reference import parts
from test_exact import same

ROWS = np.random.default_rng(41).standard_normal((60, 8)).astype(np.float32)
BIG = np.full((2, 2), 2.0**63)


@pytest.fixture(scope="module")
def index():
    return nseekfs.from_embeddings(ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bad")


def build(rows, **options):
    return lambda index, folder: nseekfs.from_embeddings(rows, **options)


def query(vector, *arguments, **options):
    return lambda index, folder: index.query(vector, *arguments, **options)


def search(queries, *arguments, **options):
    return lambda index, folder: index.search(queries, *arguments, **options)


def create(name="index", place="", **options):
    return lambda index, folder: nseekfs.create_index(ROWS, folder / place, base_name=name, **options)


def load(content, **options):
    def call(index, folder):
        path = folder / "content.bin"
        path.write_bytes(content(index, folder) if callable(content) else content)
        return nseekfs.load_index(path, **options)

    return call


def saved(index, folder):
    index.save(folder / "whole.bin")
    return (folder / "whole.bin").read_bytes()


def with_value(value, dtype=np.float32, place=(3, 2), shape=(5, 4)):
    rows = np.ones(shape, dtype)
    rows[place] = value
    return rows


def npy(index, folder):
    np.save(folder / "rows.npy", ROWS)
    return (folder / "rows.npy").read_bytes()


def batch_in_batch(index, folder):
    with index.batch(), index.batch():
        pass


def compact_in_batch(index, folder):
    with index.batch():
        index.compact()


def changed_reader(index, folder):
    saved(index, folder)
    with nseekfs.load_index(folder / "whole.bin") as reader:
        reader.delete(0)


def unwritable(folder):
    """A folder in which nobody, not even root, can create files."""
    if os.geteuid() == 0:
        return "/proc"
    (folder / "locked").mkdir(mode=0o500, exist_ok=True)
    return folder / "locked"


OLDER = np.array([8, 60, 0], "<u4").tobytes() + ROWS.tobytes()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
V = ROWS[0]

BAD = {
    # values
    "NaN in a row": (build(with_value(np.nan)), InputError, "embeddings finite NaN row 3 column 2"),
    "infinity in a row": (build(with_value(-np.inf)), InputError, "embeddings finite inf row 3 column 2"),
    "NaN in a later block": (
        build(with_value(np.nan, np.float16, (700, 9), (900, 4000))),
        InputError,
        "embeddings finite NaN row 700 column 9",
    ),
    "NaN in float64": (build(with_value(np.nan, np.float64)), InputError, "embeddings finite row 3 column 2"),
    "NaN in a query": (query([np.nan] * 8), InputError, "query finite NaN column 0"),
    "infinity in a query": (search([V, V * np.inf]), InputError, "queries finite row 1"),
    "float64 beyond float32": (
        build(with_value(1e39, np.float64)),
        InputError,
        "embeddings float32 1e39 row 3 column 2",
    ),
    "query beyond float32": (query([1e39] * 8), InputError, "query float32 1e39"),
    "beyond float16": (
        build(with_value(7e4), level="f16"),
        InputError,
        "embeddings float16 7e4 row 3 column 2",
    ),
    "extended beyond float16": (
        build(with_value(7e4, np.longdouble), level="f16"),
        InputError,
        "embeddings float16 7e4 row 3 column 2",
    ),
    "rows too long": (build(BIG), InputError, "embeddings 2^63 row 0"),
    "rows too long at f64": (build(BIG, level="f64"), InputError, "embeddings 2^63 row 0"),
    "rows too long at f8": (build(BIG, level="f8"), InputError, "embeddings 2^63 row 0"),
    "query too long": (query([2.0**62] * 8), InputError, "query 2^63"),
    "normalized that is false": (build(ROWS, normalized=True), InputError, "normalized unit length row 0"),
    # shapes
    "a number": (build(3.0), InputError, "embeddings (rows, dims) single number"),
    "0-d": (build(np.float32(3)), InputError, "embeddings (rows, dims) single number"),
    "1-d": (build(V), InputError, "embeddings (rows, dims) (8,)"),
    "1-d list": (build([1.0, 2.0]), InputError, "embeddings (rows, dims) (2,)"),
    "3-d": (build(ROWS.reshape(2, 30, 8)), InputError, "embeddings (rows, dims) (2, 30, 8)"),
    "3-d list": (build([[[1.0]]]), InputError, "embeddings (rows, dims) (1, 1, 1)"),
    "no rows": (build(ROWS[:0]), InputError, "embeddings at least one (0, 8)"),
    "no dims": (build(ROWS[:, :0]), InputError, "embeddings at least one (60, 0)"),
    "empty list": (build([]), InputError, "embeddings at least one"),
    "list of empty lists": (build([[], []]), InputError, "embeddings at least one (2, 0)"),
    "too many dims": (build(np.ones((1, 65537), np.int8)), InputError, "embeddings 65536 65537"),
    "ragged": (build([[1.0, 2.0], [3.0]]), InputError, "embeddings equal length"),
    "ragged deep": (build([[1.0, 2.0], [3.0, [4.0]]]), InputError, "embeddings equal length"),
    "0-d query": (query(1.0), InputError, "query one vector single number"),
    "2-d query": (query(ROWS[:1]), InputError, "query one vector (1, 8) search()"),
    "empty query": (query([]), InputError, "query one vector (0,)"),
    "3-d queries": (search(ROWS[None]), InputError, "queries (rows, dims) (1, 60, 8)"),
    "no queries of other dims": (search(ROWS[:0, :5]), InputError, "queries 8 5"),
    "one query without values": (search([[]]), InputError, "queries (rows, dims) (1, 0)"),
    "no queries to measure": (lambda i, f: i.recall(ROWS[:0]), InputError, "queries at least one (0, 8)"),
    "row in the index": (lambda i, f: V in i, InputTypeError, "ids int str float32"),
    "list in the index": (lambda i, f: [3] in i, InputTypeError, "id int str list contains"),
    "bool in the index": (lambda i, f: True in i, InputTypeError, "id int str True"),
    "rows by a float": (lambda i, f: i[1.0], InputTypeError, "ids int str float64"),
    "rows by floats": (lambda i, f: i[[1.0]], InputTypeError, "ids int str float64"),
    "rows by a bool": (lambda i, f: i[True], InputTypeError, "ids whole number True"),
    "rows by a tuple": (lambda i, f: i[1, 2], InputTypeError, "ids tuple"),
    "rows by a word": (lambda i, f: i["1"], nseekfs.MissingIdError, 'id "1"'),
    "rows of no ids": (lambda i, f: i.get([0, 60]), nseekfs.MissingIdError, "id 60"),
    "rows from the end": (lambda i, f: i[-1], nseekfs.MissingIdError, "id -1"),
    "ids in a list of lists": (lambda i, f: i.delete([[1]]), InputError, "ids one dimension (1, 1)"),
    "ids of two types": (lambda i, f: i.delete(["a", 1]), InputTypeError, "ids one type"),
    "ids of the other type": (lambda i, f: i.delete(["a"]), InputError, "ids integers texts"),
    "too few ids": (lambda i, f: i.add(ROWS[:2], [99]), InputError, "ids 2 ids 1 ids"),
    "ids without rows": (lambda i, f: i.add(ROWS[:0], [99]), InputError, "ids no rows 1 ids"),
    "an id twice": (lambda i, f: i.add(ROWS[:2], [99, 99]), InputError, "ids once 99 rows 0 and 1"),
    "an id that exists": (lambda i, f: i.add(ROWS[:2], [99, 5]), InputError, "ids upsert 5"),
    "ids that are floats": (lambda i, f: i.add(ROWS[:1], [9.0]), InputTypeError, "ids float64"),
    "added rows of other dims": (lambda i, f: i.add(ROWS[:, :5]), InputError, "embeddings 8 5"),
    "added NaN": (lambda i, f: i.add([[float("nan")] * 8]), InputError, "embeddings finite NaN row 0"),
    "batch in a batch": (batch_in_batch, InputError, "batch within"),
    "compaction in a batch": (compact_in_batch, InputError, "compact batch"),
    "change of a reader": (changed_reader, InputError, "index writable=True"),
    "writable in memory": (lambda i, f: nseekfs.load_index(f, writable=True, mode="ram"), InputError, "writable mmap"),
    "writable as a number": (lambda i, f: nseekfs.load_index(f, writable=1), InputTypeError, "writable True False 1"),
    "compaction at once": (lambda i, f: i.compact_automatically(1.0), InputError, "ratio above 1"),
    "compaction by a flag": (lambda i, f: i.compact_automatically(True), InputTypeError, "ratio real True"),
    "empty without dims": (lambda i, f: nseekfs.empty(0), InputError, "dims 1 0"),
    "empty of many dims": (lambda i, f: nseekfs.empty(1 << 20), InputError, "dims 65536"),
    "rows by None": (lambda i, f: i[None], InputTypeError, "ids None"),
    "rows by a mixture": (lambda i, f: i[[True, 2]], InputTypeError, "index bool int64"),
    "rows by a short mask": (lambda i, f: i[np.ones(59, bool)], InputError, "index bool 60 (59,)"),
    "ragged queries": (search([[1.0] * 8, [1.0]]), InputError, "queries equal length"),
    "wrong dims": (query(ROWS[0, :5]), InputError, "query 8 5"),
    "wrong dims of queries": (search(ROWS[:, :5]), InputError, "queries 8 5"),
    "queries too long": (search([[2.0**62] * 8]), InputError, "queries 2^63"),
    "queries beyond float32": (search([[1e39] * 8]), InputError, "queries float32 1e39"),
    "queries of recall": (lambda i, f: i.recall(ROWS * np.inf), InputError, "queries finite row 0"),
    "wrong dims of explain_miss": (lambda i, f: i.explain_miss(V[:5], 0), InputError, "query: 8 5"),
    "NaN to explain_miss": (lambda i, f: i.explain_miss(V * np.nan, 0), InputError, "query: finite row 0"),
    # dtypes
    "bool": (build(ROWS > 0), InputTypeError, "embeddings real numbers bool"),
    "complex": (build(ROWS.astype(np.complex64)), InputTypeError, "embeddings real numbers complex64"),
    "text": (build(ROWS.astype(str)), InputTypeError, "embeddings real numbers <U"),
    "bytes": (build(ROWS.astype("S9")), InputTypeError, "embeddings real numbers S9"),
    "object": (build(ROWS.astype(object)), InputTypeError, "embeddings real numbers object"),
    "dates": (build(ROWS.astype("M8[s]")), InputTypeError, "embeddings real numbers datetime64"),
    "durations": (build(ROWS.astype("m8[s]")), InputTypeError, "embeddings real numbers timedelta64"),
    "structured": (build(np.zeros((2, 2), "f4,f4")), InputTypeError, "embeddings real numbers"),
    "None": (build(None), InputTypeError, "embeddings real numbers None"),
    "a path": (build("rows.npy"), InputTypeError, "embeddings real numbers <U8"),
    "a dict": (build({1: 2}), InputTypeError, "embeddings real numbers dict"),
    "a generator of words": (build(iter(["a", "b"])), InputTypeError, "embeddings real numbers <U1"),
    "a generator of numbers": (build(iter([1.0, 2.0])), InputError, "embeddings blocks rows single number"),
    "a generator of tables": (build(iter([ROWS[None]])), InputError, "embeddings blocks (1, 60, 8)"),
    "a generator of nothing": (build(iter([])), InputError, "embeddings (rows, dims) (0, 0)"),
    "a generator of other dims": (build(iter([ROWS, ROWS[:, :5]])), InputError, "embeddings 8 (60, 5) row 60"),
    "a generator of queries": (search(iter(ROWS)), InputTypeError, "queries real numbers iterator np.concatenate"),
    "a column with a missing row": (
        build(producers.Array(producers.objects([*ROWS, None]))),
        InputError,
        "None row 60",
    ),
    "a column of words": (build(producers.objects(["one", "two"])), InputTypeError, "embeddings <U3"),
    "a column of ragged rows": (build(producers.objects([V, V[:5]])), InputError, "embeddings equal length"),
    "a table of vectors and words": (
        build(producers.Array(np.array([[V, "a"], [V, "b"]], object))),
        InputTypeError,
        "embeddings Array",
    ),
    "list of None": (build([[1.0, None]]), InputTypeError, "embeddings real numbers"),
    "list of bools": (build([[True, False]]), InputTypeError, "embeddings real numbers bool"),
    "list of huge": (build([[2**70, 1]]), InputTypeError, "embeddings real numbers 64 bits"),
    "masked": (build(np.ma.masked_less(ROWS, 0)), InputError, "embeddings masked"),
    "masked in a list": (build(list(np.ma.masked_less(ROWS, 0))), InputError, "embeddings masked"),
    "on a GPU": (build(producers.ON_GPU), InputTypeError, "embeddings Tensor.cpu()"),
    "with a gradient": (build(producers.WITH_GRADIENT), InputTypeError, "embeddings detach()"),
    "DLPack on a GPU": (build(producers.DLPack(ROWS, 2)), InputTypeError, "embeddings on the CPU"),
    "bool query": (query(V > 0), InputTypeError, "query real numbers bool"),
    "complex queries": (search(ROWS * 1j), InputTypeError, "queries real numbers complex"),
    # numbers
    "k 0": (search(V, 0), InputError, "k: at least 1 0"),
    "k -1": (search(V, -1), InputError, "k at least 1 -1"),
    "k 1.5": (search(V, 1.5), InputTypeError, "k whole number 1.5"),
    "k 1.0": (search(V, 1.0), InputTypeError, "k whole number 1.0"),
    "k True": (search(V, True), InputTypeError, "k whole number True"),
    "k 2**64": (search(V, 2**64), InputError, "k whole number 18446744073709551616"),
    "k immense": (search(V, 10**5000), InputError, "k whole number bits"),
    "k text": (search(V, "3"), InputTypeError, "k whole number '3'"),
    "k None": (search(V, None), InputTypeError, "k whole number None"),
    "top_k 0": (query(V, 0), InputError, "top_k at least 1 0"),
    "top_k -1": (query(V, top_k=-1), InputError, "top_k at least 1 -1"),
    "top_k 1.5": (query(V, top_k=1.5), InputTypeError, "top_k whole number 1.5"),
    "top_k 2**64": (query(V, top_k=2**64), InputError, "top_k whole number"),
    "threads 0": (query(V, threads=0), InputError, "threads 0"),
    "threads -1": (build(ROWS, threads=-1), InputError, "threads -1"),
    "threads True": (query(V, threads=True), InputTypeError, "threads whole number True"),
    "threads 1.0": (search(ROWS, threads=1.0), InputTypeError, "threads whole number 1.0"),
    "seed -1": (build(ROWS, seed=-1), InputError, "seed -1"),
    "seed 2**64": (build(ROWS, seed=2**64), InputError, "seed"),
    "seed 0.5": (build(ROWS, seed=0.5), InputTypeError, "seed whole number 0.5"),
    "min_score NaN": (query(V, min_score=float("nan")), InputError, "min_score NaN"),
    "max_distance NaN": (query(V, similarity="l2", max_distance=np.nan), InputError, "max_distance NaN"),
    "min_score text": (query(V, min_score="0.5"), InputTypeError, "min_score real number '0.5'"),
    "min_score True": (query(V, min_score=True), InputTypeError, "min_score real number True"),
    "min_score 10**400": (query(V, min_score=10**400), InputError, "min_score bits"),
    "min_score with a distance": (
        query(V, similarity="euclidean", min_score=1),
        InputError,
        "min_score max_distance euclidean",
    ),
    "max_distance with cosine": (query(V, max_distance=1), InputError, "max_distance min_score cosine"),
    "max_distance with dot": (
        query(V, similarity="ip", max_distance=1),
        InputError,
        "max_distance min_score ip",
    ),
    # words
    "metric": (build(ROWS, metric="manhattan"), InputError, "metric cosine dot euclidean manhattan"),
    "metric 3": (build(ROWS, metric=3), InputTypeError, "metric word 3"),
    "similarity": (query(V, similarity="Cosine"), InputError, "similarity cosine Cosine"),
    "similarity 3": (search(V, similarity=3), InputTypeError, "similarity word 3"),
    "level": (build(ROWS, level="f4"), InputError, "level f64 f32 f16 f8 f4"),
    "level 16": (build(ROWS, level=16), InputTypeError, "level word 16"),
    "method": (query(V, method="fast"), InputError, "method auto simd scalar fast"),
    "method at build": (build(ROWS, method="fast"), InputError, "method auto simd scalar fast"),
    "method None": (query(V, method=None), InputTypeError, "method word None"),
    "ann 1": (build(ROWS, ann=1), InputTypeError, "ann True or False 1"),
    "normalized 'yes'": (build(ROWS, normalized="yes"), InputTypeError, "normalized True or False 'yes'"),
    "return_keys": (search(V, return_keys=True), TypeError, "return_keys"),
    "progress 1": (build(ROWS, progress=1), InputTypeError, "progress callable 1"),
    "unknown keyword": (build(ROWS, force_rebuild=True), TypeError, "force_rebuild"),
    "unknown keyword of query": (query(V, k=3), TypeError, "k"),
    "limit in search": (search(ROWS, min_score=0.5), TypeError, "min_score"),
    # filters
    "short mask": (query(V, filter=[True] * 59), InputError, "filter 60 59"),
    "long mask": (search(ROWS, filter=np.ones(61, bool)), InputError, "filter 60 61"),
    "2-d mask": (query(V, filter=np.ones((1, 60), bool)), InputError, "filter one dimension (1, 60)"),
    "2-d rows": (query(V, filter=[[1, 2]]), InputError, "filter one dimension (1, 2)"),
    "0-d filter": (query(V, filter=3), InputError, "filter one dimension single number"),
    "float mask": (query(V, filter=np.ones(60)), InputTypeError, "filter bool ids float64"),
    "float rows": (query(V, filter=[1.0, 2.0]), InputTypeError, "filter bool ids float64"),
    "bools and rows": (query(V, filter=[True, 2]), InputTypeError, "filter bool ids mixture"),
    "text filter": (query(V, filter="all"), InputTypeError, "filter bool ids <U3"),
    "set filter": (query(V, filter={1, 2}), InputTypeError, "filter bool ids set"),
    "mask of integers": (query(V, filter=(V[0] < ROWS[:, 0]).astype("u1")), InputError, "filter astype(bool) 60"),
    "mask of integers in search": (search(V, filter=[0] * 59 + [1]), InputError, "filter astype(bool) 60"),
    "mask of zeros": (search(V, filter=np.zeros(60, np.int64)), InputError, "filter astype(bool) 60"),
    "mask by DLPack": (query(V, filter=producers.DLPack(np.ones(60, "u1"))), InputError, "filter astype(bool)"),
    "row 60": (query(V, filter=[0, 60]), InputError, "filter 59 60"),
    "row -1": (search(ROWS, filter=[-1]), InputError, "filter -1"),
    "row 2**63": (query(V, filter=np.array([2**63], np.uint64)), InputError, "filter 59 9223372036854775807"),
    # paths
    "missing path": (lambda i, f: nseekfs.load_index(f / "none.bin"), FileNotFoundError, "none.bin"),
    "a folder": (lambda i, f: nseekfs.load_index(f), OSError, "directory"),
    "empty path": (lambda i, f: nseekfs.load_index(""), InputError, "path empty"),
    "NUL in a path": (lambda i, f: nseekfs.load_index("a\0b"), InputError, "path NUL"),
    "path 3": (lambda i, f: nseekfs.load_index(3), InputTypeError, "path 3"),
    "save to a missing folder": (lambda i, f: i.save(f / "no" / "x.bin"), FileNotFoundError, "x.bin"),
    "save to a folder": (lambda i, f: i.save(f), OSError, ""),
    "read-only folder": (lambda i, f: nseekfs.create_index(ROWS, unwritable(f)), OSError, ""),
    "file as folder": (
        lambda i, f: ((f / "file").write_bytes(b"") and 0) or nseekfs.create_index(ROWS, f / "file"),
        OSError,
        "file",
    ),
    "separator": (create("a/b"), InputError, "base_name separators a/b"),
    "backslash": (create("a\\b"), InputError, "base_name separators"),
    "parent": (create(".."), InputError, "base_name separators .."),
    "no name": (create(""), InputError, "base_name ''"),
    "NUL in a name": (create("a\0"), InputError, "base_name"),
    "name None": (create(None), InputTypeError, "base_name word None"),
    "base_name alone": (build(ROWS, base_name="x"), InputError, "base_name output_dir"),
    "output_dir 3": (build(ROWS, output_dir=3), InputTypeError, "output_dir path 3"),
    "mode": (load(saved, mode="disk"), InputError, "mode mmap ram disk"),
    "verify": (load(saved, verify=True), InputTypeError, "verify word True"),
    "ann at load": (load(saved, ann="no"), InputTypeError, "ann True or False 'no'"),
    # files
    "empty file": (load(b""), FormatError, "content.bin empty"),
    "text file": (load(b"hello, world, this is no index" * 9), FormatError, "content.bin"),
    "npy": (load(npy), FormatError, "content.bin .npy"),
    "git-lfs pointer": (load(LFS), FormatError, "content.bin git-lfs"),
    "older nseekfs": (load(OLDER), FormatError, "content.bin 1.1.0"),
    "truncated": (load(lambda i, f: saved(i, f)[:-1]), FormatError, "content.bin F8"),
    "trailing bytes": (load(lambda i, f: saved(i, f) + b"\0"), FormatError, "content.bin F8"),
    "flipped byte": (
        load(lambda i, f: (b := bytearray(saved(i, f))).__setitem__(900, b[900] ^ 1) or bytes(b)),
        FormatError,
        "content.bin F17",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_words(name, index, folder):
    call, kind, words = BAD[name]
    with pytest.raises(kind) as caught:
        call(index, folder)
    assert isinstance(caught.value, nseekfs.Error | OSError) or type(caught.value) is TypeError
    message = str(caught.value)
    assert message
    assert len(message) < 500
    for word in words.split():
        assert word in message, message


def test_a_refused_argument_writes_nothing(index, tmp_path):
    for rows, options in ((with_value(np.nan), {}), (ROWS, {"level": "f4"}), (ROWS, {"base_name": "a/b"})):
        with pytest.raises(InputError):
            nseekfs.create_index(rows, tmp_path / "new", **options)
    assert list(tmp_path.iterdir()) == []


def memory_mapped(rows, folder):
    np.save(folder / "map.npy", rows)
    return np.load(folder / "map.npy", mmap_mode="r")


def read_only(rows):
    rows = rows.copy()
    rows.setflags(write=False)
    return rows


def unaligned(rows):
    room = np.zeros(rows.nbytes + 1, np.uint8)
    view = room[1:].view(np.uint8)[: rows.nbytes].view(rows.dtype).reshape(rows.shape)
    view[:] = rows
    assert not view.flags.aligned
    return view


def field(rows):
    record = np.zeros(rows.shape, [("a", "f8"), ("b", rows.dtype)])
    record["b"] = rows
    return record["b"]


class Subclass(np.ndarray):
    """An array whose operators fail the test when they are used."""

    def __array_ufunc__(self, *arguments, **options):
        raise AssertionError("a ufunc was called")


GOOD = {
    "Fortran order": lambda rows, folder: np.asfortranarray(rows),
    "every other column": lambda rows, folder: np.repeat(rows, 2, axis=-1)[..., ::2],
    "reversed twice": lambda rows, folder: rows[::-1].copy()[::-1],
    "reversed columns": lambda rows, folder: rows[..., ::-1].copy()[..., ::-1],
    "byte-swapped": lambda rows, folder: rows.astype(rows.dtype.newbyteorder()),
    "read-only": lambda rows, folder: read_only(rows),
    "memory-mapped": memory_mapped,
    "unaligned": lambda rows, folder: unaligned(rows),
    "field of a record": lambda rows, folder: field(rows),
    "subclass": lambda rows, folder: rows.view(Subclass),
    "masked without masks": lambda rows, folder: np.ma.array(rows),
    "memoryview": lambda rows, folder: memoryview(rows),
    "list": lambda rows, folder: rows.tolist(),
    "tuple of arrays": lambda rows, folder: tuple(rows),
    "__array__": lambda rows, folder: producers.Array(rows),
    "DLPack": lambda rows, folder: producers.DLPack(rows),
    "float64": lambda rows, folder: rows.astype(np.float64),
    "with a gradient": lambda rows, folder: producers.Tensor(rows, requires_grad=True),
    "list of tensors": lambda rows, folder: [producers.Tensor(row, requires_grad=True) for row in rows],
    "a column": lambda rows, folder: producers.Column(rows) if rows.ndim == 2 else rows,
    "a column of a table": lambda rows, folder: producers.Array(producers.objects(rows)) if rows.ndim == 2 else rows,
    "a table of one column": (
        lambda rows, folder: producers.Array(producers.objects(rows)[:, None]) if rows.ndim == 2 else rows
    ),
    "extended": lambda rows, folder: rows.astype(np.longdouble),
}


@pytest.mark.parametrize("form", GOOD)
def test_every_form_gives_the_answer_of_the_plain_array(form, index, folder):
    expected = parts(index.search(ROWS, 60))
    given = GOOD[form](ROWS, folder)
    built = nseekfs.from_embeddings(given)
    assert built[:].tobytes() == ROWS.tobytes()
    assert same(parts(built.search(given, 60)), expected)
    for row in (0, 5):
        hits = index.query(GOOD[form](ROWS[row], folder), 60)
        assert same(parts(hits), [part[row] for part in expected])


def test_rows_may_be_a_list_of_anything(index):
    for rows in (
        [array.array("f", row.tobytes()) for row in ROWS],
        [producers.Array(row) for row in ROWS],
        [memoryview(row) for row in ROWS],
        [ROWS[0].tolist(), *ROWS[1:]],
    ):
        assert nseekfs.from_embeddings(rows)[:].tobytes() == ROWS.tobytes()


def test_a_query_may_be_any_buffer(index):
    expected = index.query(V)
    for vector in (
        array.array("f", V.tobytes()),
        memoryview(V),
        producers.DLPack(V),
        producers.Array(V),
        V.tolist(),
    ):
        assert index.query(vector) == expected
    whole = np.arange(8)
    for vector in (
        bytearray(range(8)),
        array.array("q", range(8)),
        range(8),
        whole.astype(">u2"),
        whole.tolist(),
    ):
        assert index.query(vector) == index.query(whole.astype(np.float32))


@pytest.mark.parametrize("k", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_whole_numbers_of_numpy_are_whole_numbers(index, k):
    assert len(index.query(V, k, threads=np.int16(1))) == 3


def test_seeds_reach_to_64_bits():
    assert nseekfs.from_embeddings(ROWS, seed=2**64 - 1).seed == 2**64 - 1
