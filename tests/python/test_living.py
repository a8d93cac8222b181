"""An index that changes: ids, add, upsert, delete, batches, compaction, its file, its readers and crashes."""

import contextlib
import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import living_model
import nseekfs
import numpy as np
import pytest
from nseekfs import InputError

ROWS = np.random.default_rng(5).standard_normal((3000, 40)).astype(np.float32)
QUERIES = np.random.default_rng(6).standard_normal((9, 40)).astype(np.float32)


def live(tmp_path: Path, rows: int = 100, **options) -> nseekfs.Index:
    """An index in a file that can be changed."""
    path = nseekfs.create_index(ROWS[:rows], tmp_path, base_name="live", **options)
    return nseekfs.load_index(path, writable=True)


def equal(index: nseekfs.Index, fresh: nseekfs.Index, **options) -> bool:
    """Whether both give the same ids, scores and keys, to the last bit."""
    got, want = (one.search(QUERIES, 20, **options) for one in (index, fresh))
    same = got.keys.tobytes() == want.keys.tobytes() and got.scores.tobytes() == want.scores.tobytes()
    return same and got.indices.tolist() == want.indices.tolist()


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("level", ["f64", "f32", "f16", "f8"])
def test_any_sequence_of_changes_gives_the_bits_of_a_fresh_index(level, texts, disk, tmp_path):
    assert living_model.run(11, 120, tmp_path if disk else None, level=level, texts=texts) >= 120


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("kind", ["ivf", "lsh"])
def test_any_sequence_of_changes_of_an_approximate_index_leaves_exact_answers_exact(kind, disk, tmp_path):
    for seed in range(20, 23):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert living_model.run(seed, 60, folder if disk else None, ann=kind, texts=seed % 2 == 0) >= 60


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_rows_without_codes_beside_rows_with_codes_give_the_bits_of_a_fresh_index(metric, tmp_path):
    rows = np.random.default_rng(1).standard_normal((40_000, 40)).astype(np.float32)
    index = nseekfs.from_embeddings(rows[:30_000], metric)
    assert index.codes
    for start in range(30_000, 40_000, 1000):
        index.add(rows[start : start + 1000])
    index.upsert(rows[:50] * 2, ids=np.arange(50))
    gone = np.arange(100, 20_000, 7)
    assert index.delete(gone) == len(gone)
    kept = np.setdiff1d(np.arange(50, 40_000), gone)
    fresh = nseekfs.from_embeddings(np.concatenate([rows[kept], rows[:50] * 2]), metric, ids=[*kept, *range(50)])
    for options in (
        {},
        {"method": "simd"},
        {"threads": 1},
        {"filter": kept[::3]},
        {"filter": np.arange(len(fresh)) % 2 == 0},
    ):
        assert equal(index, fresh, **options)
        one, other = (each.query(QUERIES[0], 500, **options) for each in (index, fresh))
        assert one == other
        assert one.keys.tobytes() == other.keys.tobytes()
    index.compact()
    assert equal(index, fresh)
    assert index.codes


def test_a_table_that_grows_past_4_MB_gets_codes():
    index = nseekfs.empty()
    for start in range(0, 40_000, 4000):
        index.add(np.random.default_rng(start).standard_normal((4000, 40)).astype(np.float32))
    assert index.codes
    assert len(index) == 40_000
    plain = nseekfs.from_embeddings(ROWS, codes=False)
    plain.add(ROWS)
    assert not plain.codes


@pytest.mark.parametrize("kind", ["ivf", "lsh"])
def test_approximate_search_keeps_its_recall_while_a_table_doubles_and_loses_half(kind):
    random = np.random.default_rng(3)
    centres = random.standard_normal((60, 40))
    rows = (centres[random.integers(60, size=16_000)] + 0.5 * random.standard_normal((16_000, 40))).astype(np.float32)
    queries = (centres[random.integers(60, size=300)] + 0.5 * random.standard_normal((300, 40))).astype(np.float32)
    index = nseekfs.from_embeddings(rows[:8000], ann=kind, recall=0.9)
    for start in range(8000, 16_000, 500):
        index.add(rows[start : start + 500])
        index.delete(np.arange(start - 8000, start - 8000 + 250))
        if start % 2000 == 0:
            best = index.search(queries, 10, method="simd").keys[:, -1:]
            had = (index.search(queries, 10).keys >= best - 1e-12).mean()
            assert had > 0.87, (start, had, index.ann)
            assert index.recall().recall > 0.87
    assert index.ann == kind
    assert len(index) == 12_000
    assert index.ann.added > 0
    assert index.tune(0.8).recall == 0.8
    assert index.tune(0.9, queries=queries).tuned_on == "queries"
    last = index.explain_miss(queries[0], index.ids[-1])
    assert last.found or "is not among the best" in last.reason
    assert index.ann.added <= 0.2 * 12_000 + 500


def test_ids_are_never_used_twice(tmp_path):
    for index in (nseekfs.from_embeddings(ROWS[:3]), live(tmp_path, 3)):
        assert index.delete([0, 1, 2]) == 3
        assert len(index) == 0
        assert index.query(QUERIES[0]).to_list() == []
        assert index.dims == 40
        assert index.add(ROWS[:2]).tolist() == [3, 4]
        index.add(ROWS[:1], ids=[1000])
        assert index.delete(1000) == 1
        index.compact()
        assert index.add(ROWS[0]).tolist() == [1001]
        assert index.ids.tolist() == [3, 4, 1001]
    path = index.path
    index.close()
    with nseekfs.load_index(path, writable=True) as again:
        assert again.add(ROWS[:1]).tolist() == [1002]
        again.delete(again.ids)
        again.compact()
    with nseekfs.load_index(path, writable=True) as again:
        assert len(again) == 0
        assert again.dims == 40
        assert again.add(ROWS[:1]).tolist() == [1003]


def test_ids_may_be_the_ends_of_int64_and_any_text():
    least, most = -(2**63), 2**63 - 1
    index = nseekfs.from_embeddings(ROWS[:3], ids=[least, most, -1])
    assert index.query(ROWS[1], 1)[0] == {"idx": most, "score": 1.0}
    assert least in index
    assert 0 not in index
    with pytest.raises(InputError, match="beyond int64"):
        index.add(ROWS[:1])
    assert index.delete([least, -1, 5]) == 2
    texts = ["", "\0", "ä" * 3000, "\U0001f600", "7"]
    index = nseekfs.from_embeddings(ROWS[:5], ids=texts)
    assert index.ids.tolist() == texts
    assert all(text in index for text in texts)
    assert 7 not in index
    assert index.query(ROWS[2], 2).indices[0] == texts[2]
    assert np.array_equal(index[texts[::-1]], ROWS[:5][::-1])
    with pytest.raises(InputError, match="ids: expected a text"):
        index.add(ROWS[:1])
    index.upsert(ROWS[8:11], ids=["new", "", "new"])
    assert index.ids.tolist() == [*texts[1:], "", "new"]
    assert np.array_equal(index["new"], ROWS[10])
    assert pickle.loads(pickle.dumps(index)).ids.tolist() == index.ids.tolist()


def test_what_goes_in_is_copied_and_what_comes_out_are_copies(tmp_path):
    for index in (nseekfs.empty(40), nseekfs.empty(40, path=tmp_path / "copies.bin")):
        rows = ROWS[:4].copy()
        index.add(rows)
        rows[:] = 0
        got = index.get([0, 1, 2, 3])
        assert np.array_equal(got, ROWS[:4])
        got[:] = 0
        index.ids[:] = 9
        assert np.array_equal(index[:], ROWS[:4])
        assert index.ids.tolist() == [0, 1, 2, 3]


def test_an_empty_index_answers_queries_of_any_length_until_it_has_rows(tmp_path):
    for index in (nseekfs.empty(), nseekfs.empty(path=tmp_path / "empty.bin")):
        assert index.query([1.0] * 7).to_list() == []
        assert index.search(QUERIES, 5).indices.shape == (9, 0)
        assert index.add(np.empty((0, 3), np.float32)).tolist() == []
        assert index.dims == 0
        index.add(ROWS[:1])
        assert index.dims == 40
        with pytest.raises(InputError, match="query: expected 40 values"):
            index.query([1.0] * 7)


def test_a_copy_in_memory_changes_alone(tmp_path):
    index = nseekfs.from_embeddings(ROWS[:50])
    other = copy.deepcopy(index)
    index.delete(range(10))
    assert (len(index), len(other)) == (40, 50)
    index.save(tmp_path / "saved.bin")
    saved = nseekfs.load_index(tmp_path / "saved.bin")
    assert equal(saved, index)
    assert saved.ids.tolist() == list(range(10, 50))
    assert pickle.loads(pickle.dumps(index)).path == saved.path
    index.add(ROWS[:1])
    assert pickle.loads(pickle.dumps(index)).ids.tolist() == [*range(10, 50), 50]


def test_a_batch_is_made_whole_or_not_at_all(tmp_path):
    for index in (nseekfs.from_embeddings(ROWS[:100]), live(tmp_path)):
        with contextlib.suppress(ZeroDivisionError), index.batch():
            index.add(ROWS[:5])
            index.delete(range(50))
            assert len(index) == 100
            raise ZeroDivisionError
        assert len(index) == 100
        assert index.ids.tolist() == list(range(100))
        generation = index.generation
        with index.batch():
            index.add(ROWS[:5])
            index.delete([0, 100])
            index.upsert(ROWS[:1], [104])
        assert index.ids.tolist() == [*range(1, 100), 101, 102, 103, 104]
        assert index.generation == (None if generation is None else generation + 1)


def test_changes_of_other_threads_wait_for_the_end_of_a_batch():
    index = nseekfs.from_embeddings(ROWS[:10])
    added = threading.Event()

    def add():
        index.add(ROWS[:1])
        added.set()

    with index.batch():
        thread = threading.Thread(target=add)
        thread.start()
        assert not added.wait(0.2)
        index.add(ROWS[:2])
    thread.join(10)
    assert index.ids.tolist() == list(range(13))


def test_a_reader_keeps_its_generation_until_it_refreshes(tmp_path):
    writer = live(tmp_path)
    reader, other = nseekfs.load_index(writer.path), nseekfs.load_index(writer.path, mode="ram")
    before = nseekfs.from_embeddings(ROWS[:100])
    assert not reader.refresh()
    writer.add(ROWS[100:200])
    writer.delete(range(0, 200, 3))
    writer.compact()
    writer.upsert(ROWS[:5], range(5))
    assert len(reader) == 100
    assert equal(reader, before)
    reader.verify()
    for one in (reader, other):
        assert one.refresh()
        assert not one.refresh()
        assert equal(one, writer)
        assert one.generation == writer.generation == 5
        one.verify()
    writer.close()
    nseekfs.create_index(ROWS[:7], tmp_path, base_name="live")
    assert reader.refresh()
    assert len(reader) == 7


def test_a_file_has_one_writer(tmp_path):
    writer = live(tmp_path)
    with pytest.raises(nseekfs.BusyError, match=f"process {os.getpid()}"):
        nseekfs.load_index(writer.path, writable=True)
    script = f"import nseekfs; nseekfs.load_index({str(writer.path)!r}, writable=True)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "BusyError" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    with pytest.raises(nseekfs.BusyError):
        nseekfs.from_embeddings(ROWS[:5]).save(writer.path)
    with pytest.raises(nseekfs.BusyError):
        nseekfs.create_index(ROWS[:5], tmp_path, base_name="live")
    writer.add(ROWS[:1])
    writer.close()
    with nseekfs.load_index(tmp_path / "live_f32.bin", writable=True) as again:
        assert len(again) == 101


def test_a_writer_whose_file_was_replaced_refuses_to_change_it(tmp_path):
    writer = live(tmp_path)
    os.replace(nseekfs.create_index(ROWS[:5], tmp_path, base_name="other"), writer.path)
    with pytest.raises(OSError, match="another one in its place"):
        writer.add(ROWS[:1])
    assert len(nseekfs.load_index(writer.path)) == 5
    assert len(writer) == 100


def test_damage_of_the_newest_commit_names_the_older_one(tmp_path):
    writer = live(tmp_path)
    writer.add(ROWS[:1])
    writer.add(ROWS[:1])
    path = Path(str(writer.path))
    writer.close()
    whole = path.read_bytes()
    for at in (64 + 5, len(whole) - 70):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(nseekfs.FormatError, match="generation 2"):
            nseekfs.load_index(path)
    path.write_bytes(whole + b"an uncommitted tail")
    with nseekfs.load_index(path, writable=True) as again:
        assert len(again) == 102
        again.add(ROWS[:1])
    assert len(nseekfs.load_index(path, verify="full")) == 103


def test_damage_is_never_compacted_or_merged(tmp_path):
    writer = live(tmp_path, 3000)
    path = Path(str(writer.path))
    with open(path, "r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    before = path.read_bytes()
    with pytest.raises(nseekfs.FormatError, match="F17"):
        writer.compact()
    assert path.read_bytes() == before


def test_a_file_stays_below_one_and_a_half_times_its_rows(tmp_path):
    writer = live(tmp_path, 2000)
    writer.upsert(ROWS[:1], [0])
    writer.compact()
    # With ids, which are no longer the numbers of the rows.
    least = os.path.getsize(str(writer.path))

    def largest(turns):
        sizes = []
        for turn in range(turns):
            ids = np.arange(turn % 50 * 40, turn % 50 * 40 + 40)
            writer.upsert(ROWS[turn : turn + 40], ids)
            sizes.append(os.path.getsize(str(writer.path)) / least)
        return max(sizes)

    assert 1.2 < largest(300) <= 1.5
    writer.compact_automatically(2.5)
    assert 2 < largest(300) <= 2.5
    writer.compact_automatically(None)
    assert largest(300) > 4
    writer.compact()
    assert os.path.getsize(str(writer.path)) < 1.1 * least
    assert len(writer) == 2000
    assert os.listdir(tmp_path) == ["live_f32.bin"]


def test_a_forked_child_reads_and_does_not_write(tmp_path):
    writer = live(tmp_path)
    done = os.fork()
    if done == 0:
        status = 1
        try:
            writer.add(ROWS[:1])
        except nseekfs.BusyError:
            found = len(writer.query(QUERIES[0], 5)) == 5
            status = 0 if found else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(done, 0)[1]) == 0
    writer.add(ROWS[:1])
    path = writer.path
    held = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    held.start()
    writer.close()
    with nseekfs.load_index(path, writable=True) as again:
        assert len(again) == 101
    held.kill()
    held.join()


WRITER = """
import sys
import numpy as np
import nseekfs

index = nseekfs.load_index(sys.argv[1], writable=True)
random = np.random.default_rng(int(sys.argv[2]))
while True:
    rows = random.standard_normal((int(random.integers(1, 6)), 8)).astype("f4")
    kind = random.integers(5)
    if kind < 2:
        ids = index.add(rows)
    elif kind == 2:
        ids = np.unique(random.integers(0, max(1, index.ids.max(initial=0)), len(rows)))
        index.upsert(rows[: len(ids)], ids)
    elif kind == 3:
        index.delete(random.choice(index.ids, min(3, len(index))))
    else:
        with index.batch():
            index.add(rows)
            index.delete(index.ids[:2])
    print(index.generation, len(index), float(index[:].sum(dtype="f8")), flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_and_nothing_is_half_there(tmp_path):
    path = nseekfs.create_index(ROWS[:50, :8].copy(), tmp_path, base_name="live")
    for turn in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(turn)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(3 + turn)]
            time.sleep(0.001 * turn)
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.read().splitlines(keepends=True)
        told = [line.split() for line in lines if line.endswith("\n")]
        generation, rows, total = int(told[-1][0]), int(told[-1][1]), float(told[-1][2])
        with nseekfs.load_index(path, writable=True, verify="full") as index:
            assert generation <= (index.generation or 0) <= generation + 2
            if index.generation == generation:
                assert len(index) == rows
                assert float(index[:].sum(dtype="f8")) == total
        assert os.listdir(tmp_path) == ["live_f32.bin"]


def test_an_interrupt_in_the_middle_of_changes_loses_nothing(tmp_path):
    index = live(tmp_path, 100)
    rows = np.random.default_rng(0).standard_normal((200, 40)).astype(np.float32)

    class Stop(Exception):
        pass

    armed = False

    def stop(*_):
        nonlocal armed
        if armed:
            armed = False
            raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for turn in range(40):
            had = len(index)
            signal.setitimer(signal.ITIMER_REAL, 0.0002 * (turn + 1))
            with contextlib.suppress(Stop):
                armed = True
                index.add(rows)
                armed = False
            assert len(index) in (had, had + 200)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    count, path = len(index), index.path
    index.close()
    with nseekfs.load_index(path, writable=True, verify="full") as again:
        assert len(again) == count


def test_readers_see_whole_generations_beside_a_writer_in_threads():
    index = nseekfs.from_embeddings(np.ones((10, 4), np.float32), metric="dot")
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            hits = index.query([1.0, 0, 0, 0], 10_000)
            # All rows of a generation hold its number of rows of ten.
            if len(hits) % 10 or len(np.unique(hits.scores)) > len(hits) // 10:
                wrong.append(len(hits))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(2, 150):
        with index.batch():
            index.add(np.full((20, 4), turn, np.float32))
            index.delete(index.ids[:10])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
