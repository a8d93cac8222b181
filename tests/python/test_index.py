"""The public objects: `Index`, `Hits`, `SearchResult`, and the files that they write."""

import copy
import filecmp
import gc
import inspect
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Unpack, get_args, get_type_hints

import nseekfs
import numpy as np
import pytest
import reference
from nseekfs import _core, _typing, build

ROWS = np.random.default_rng(31).standard_normal((300, 16)).astype(np.float32)


@pytest.fixture
def index():
    return nseekfs.from_embeddings(ROWS)


@pytest.fixture
def path(tmp_path):
    return nseekfs.create_index(ROWS, tmp_path / "indexes", base_name="rows")


def answers(index):
    return index.query(ROWS[5], 20).to_list()


class TestHits:
    def test_are_the_plain_list(self, index):
        hits = index.query(ROWS[5], top_k=4)
        plain = [{"idx": int(i), "score": float(s)} for i, s in zip(hits.indices, hits.scores)]
        assert isinstance(hits, Sequence)
        assert hits == plain
        assert plain == hits
        assert hits.to_list() == plain
        assert type(hits.to_list()) is list
        assert list(hits) == plain
        assert [hits[i] for i in range(len(hits))] == plain
        assert hits != plain[:3]
        assert hits != tuple(plain)
        assert type(hits[0]["idx"]) is int
        assert type(hits[0]["score"]) is float
        assert plain[2] in hits
        assert hits.index(plain[2]) == 2
        assert list(reversed(hits)) == plain[::-1]

    def test_slice_to_hits(self, index):
        hits = index.query(ROWS[5], top_k=9)
        for part in (slice(2), slice(-3, None), slice(None, None, -1), slice(50, 60)):
            assert isinstance(hits[part], nseekfs.Hits)
            assert hits[part] == hits.to_list()[part]
            assert np.array_equal(hits[part].keys, hits.keys[part])
        assert hits[-1] == hits[len(hits) - 1]
        with pytest.raises(IndexError):
            hits[9]

    def test_hold_arrays_of_fixed_types(self, index):
        hits = index.query(ROWS[5], top_k=3)
        assert (hits.indices.dtype, hits.scores.dtype, hits.keys.dtype) == (np.int64, np.float32, np.float64)
        assert hits.indices.shape == hits.scores.shape == hits.keys.shape == (3,)

    def test_have_a_short_repr_and_pickle(self, index):
        hits = index.query(ROWS[5], top_k=200)
        assert len(repr(hits)) < 120
        assert "200" in repr(hits)
        assert pickle.loads(pickle.dumps(hits)) == hits
        with pytest.raises(TypeError):
            hash(hits)

    def test_outlive_the_index(self, index):
        hits = index.query(ROWS[5])
        before = hits.to_list()
        index.close()
        gc.collect()
        assert hits.to_list() == before


class TestSearch:
    def test_shapes_follow_the_queries(self, index):
        assert index.search(ROWS[:7], 4).indices.shape == (7, 4)
        assert index.search(ROWS[0], 4).scores.shape == (4,)
        assert index.search(ROWS[:1], 4).scores.shape == (1, 4)
        assert index.search(ROWS[:2], 1000).indices.shape == (2, 300)
        assert index.search(ROWS[:2], 9, filter=[1, 2, 3]).indices.shape == (2, 3)

    @pytest.mark.parametrize("built", [{}, {"ann": "ivf"}, {"level": "f64", "metric": "l2"}])
    def test_no_queries_have_no_answers_of_the_usual_width(self, built):
        index = nseekfs.from_embeddings(ROWS, **built)
        for none in (ROWS[:0], ROWS[:0].astype(np.float16), ROWS[:0].astype(int), [], (), np.empty((0, 0))):
            for k, options, width in (
                (4, {}, 4),
                (1000, {}, 300),
                (9, {"filter": [1, 2, 3]}, 3),
                (9, {"filter": []}, 0),
            ):
                found = index.search(none, k, **options)
                parts = (found.indices, found.scores, found.keys)
                assert [part.shape for part in parts] == [(0, width)] * 3
                assert [part.dtype for part in parts] == [np.int64, np.float32, np.float64]
            assert index.search(none, method="scalar", similarity="dot", threads=2).indices.shape == (0, 10)
        with pytest.raises(nseekfs.InputError, match="filter"):
            index.search(ROWS[:0], filter=[300])

    def test_indices_and_scores_are_unpacked_and_keys_are_there(self, index):
        indices, scores = found = index.search(ROWS[:2])
        assert found.indices is indices
        assert found.scores is scores
        assert found.keys.dtype == np.float64
        assert np.array_equal(found.keys.astype(np.float32), scores)

    def test_methods_and_threads_do_not_matter(self, index):
        expected = index.search(ROWS)
        for method in get_args(_typing.Method):
            built = nseekfs.from_embeddings(ROWS, method=method)
            assert answers(built) == answers(index)
            for threads in (1, 2, np.int64(3)):
                found = index.search(ROWS, method=method, threads=threads)
                assert all(np.array_equal(a, b) for a, b in zip(found, expected))

    @pytest.mark.parametrize("words", [_typing.CosineWord, _typing.DotWord, _typing.EuclideanWord])
    def test_aliases_mean_the_same(self, words):
        first, *aliases = get_args(words)
        index = nseekfs.from_embeddings(ROWS, first)
        assert index.metric == first
        for alias in aliases:
            built = nseekfs.from_embeddings(ROWS, metric=alias)
            assert built.metric == first
            assert answers(built) == index.query(ROWS[5], 20, similarity=alias) == answers(index)

    def test_the_words_of_the_type_checker_are_those_of_the_extension(self, index, tmp_path):
        path = tmp_path / "words.bin"
        index.save(path)
        for call, *types in (
            (lambda: index.query(ROWS[0], similarity="?"), *get_args(_typing.Metric)),
            (lambda: nseekfs.from_embeddings(ROWS, level="?"), _typing.Level),
            (lambda: index.query(ROWS[0], method="?"), _typing.Method),
            (lambda: nseekfs.load_index(path, mode="?"), _typing.Mode),
            (lambda: nseekfs.load_index(path, verify="?"), _typing.Verify),
        ):
            with pytest.raises(nseekfs.InputError) as caught:
                call()
            said = str(caught.value).split("one of ")[1].split(", got")[0].replace('"', "")
            words = [word for kind in types for word in (get_args(kind) or [kind])]
            assert sorted(said.split(", ")) == sorted(words)


def test_create_index_takes_every_keyword_of_from_embeddings():
    def keywords(call):
        return {name: part.annotation for name, part in inspect.signature(call).parameters.items()}

    passed_on = keywords(nseekfs.from_embeddings)
    own = keywords(nseekfs.create_index)
    assert own.pop("options") == Unpack[build.BuildOptions]
    assert own.keys() < passed_on.keys()
    assert {name: passed_on[name] for name in passed_on if name not in own} == get_type_hints(build.BuildOptions)


class TestIndex:
    def test_tells_what_it_is(self, path):
        index = nseekfs.load_index(path)
        assert (index.rows, index.dims, len(index)) == (300, 16, 300)
        assert (index.level, index.metric, index.ann, index.seed) == ("f32", "cosine", "exact", 0)
        assert index.normalized is False
        assert index.nbytes >= ROWS.nbytes
        assert index.path == path
        for word in ("300", "16", "f32", "cosine", nseekfs.simd_info()["used"], "kB"):
            assert word in repr(index)

    def test_normalized_is_measured_and_never_changes_the_answer(self):
        unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
        found = [nseekfs.from_embeddings(unit, normalized=said) for said in (None, True, False)]
        assert found[0].normalized is True
        assert answers(found[0]) == answers(found[1]) == answers(found[2])
        assert nseekfs.from_embeddings(unit.astype(np.float16), normalized=True).normalized is True

    @pytest.mark.parametrize("level", get_args(_typing.Level))
    def test_gives_its_rows_as_stored(self, level):
        index = nseekfs.from_embeddings(ROWS, level=level)
        table = reference.stored(ROWS, level)
        for item in (0, 7, 299, np.int32(5), slice(2, 5), slice(None), slice(-3, None), slice(9, 2)):
            assert index[item].dtype == table.dtype
            assert np.array_equal(index[item], table[item])
        for item in (slice(None, None, 7), slice(None, None, -1), slice(20, 3, -5), slice(3, 20, -1)):
            assert np.array_equal(index[item], table[item])
        assert np.array_equal(np.array(list(index)), table)
        for row in (300, -1):
            for item in (row, np.int64(row), [0, row], np.array([[row]])):
                with pytest.raises(IndexError, match=f"got {row}"):
                    index[item]

    @pytest.mark.parametrize("level", get_args(_typing.Level))
    @pytest.mark.parametrize("saved", [False, True])
    def test_gives_the_rows_of_numbers_and_masks_as_numpy_does(self, level, saved, tmp_path):
        index = nseekfs.from_embeddings(ROWS, level=level, output_dir=tmp_path if saved else None)
        table = reference.stored(ROWS, level)
        hits, found = index.query(ROWS[3], 7), index.search(ROWS[:4], 5)
        for item in (
            *([5, 3, 3, 0], [], np.array([], np.uint8), np.array([[1, 2], [0, 299]], np.int16)),
            *(np.array(5), range(3, 9), np.arange(300) % 3 == 0, [True] * 299 + [False], np.zeros(300, bool)),
            *(np.array([2, 1], ">u8"), hits.indices, found.indices),
        ):
            assert index[item].dtype == table.dtype
            wanted = table[np.asarray(item, np.int64 if len(np.atleast_1d(item)) == 0 else None)]
            assert index[item].shape == wanted.shape
            assert np.array_equal(index[item], wanted)

    def test_goes_over_its_rows(self):
        rows = np.ones((2500, 1000), np.float32) * np.arange(2500, dtype=np.float32)[:, None]
        seen = [row[0] for row in nseekfs.from_embeddings(rows, metric="dot", codes=False)]
        assert seen == list(range(2500))
        index = nseekfs.from_embeddings(ROWS)
        assert np.array_equal(np.array(list(reversed(index))), ROWS[::-1])


class TestClose:
    USES = (
        lambda index: index.query(ROWS[0]),
        lambda index: index.search(ROWS),
        lambda index: index[0],
        lambda index: index[1:2],
        len,
        lambda index: index.rows,
        lambda index: index.level,
        lambda index: index.path,
        lambda index: index.verify(),
        lambda index: index.save("never.bin"),
        lambda index: index.__enter__(),
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
    )

    @pytest.mark.parametrize("use", USES)
    def test_every_use_after_it_is_an_error(self, path, use):
        for index in (nseekfs.load_index(path), nseekfs.from_embeddings(ROWS)):
            index.close()
            index.close()
            with pytest.raises(nseekfs.InputError, match=r"index.*closed"):
                use(index)
            assert "closed" in repr(index)

    def test_comes_at_the_end_of_with(self, path):
        with nseekfs.load_index(path) as index:
            assert answers(index)
        with pytest.raises(nseekfs.InputError):
            answers(index)

    def test_while_others_ask(self, path):
        index, expected, wrong = nseekfs.load_index(path), answers(nseekfs.load_index(path)), []
        started = threading.Barrier(4)

        def ask():
            started.wait()
            try:
                while True:
                    if answers(index) != expected:
                        wrong.append("another answer")
                        return
            except nseekfs.InputError:
                return

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        index.close()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []


class TestFiles:
    def test_the_name_is_the_base_name_and_the_level(self, tmp_path):
        folder = tmp_path / "a" / "b"
        assert nseekfs.create_index(ROWS, folder) == str(folder / "index_f32.bin")
        index = nseekfs.from_embeddings(ROWS, level="f8", output_dir=os.fsencode(folder), base_name="production_v1")
        assert index.path == str(folder / "production_v1_f8.bin")
        assert sorted(os.listdir(folder)) == ["index_f32.bin", "production_v1_f8.bin"]

    @pytest.mark.parametrize("level", get_args(_typing.Level))
    @pytest.mark.parametrize("mode", get_args(_typing.Mode))
    def test_a_loaded_index_answers_the_same(self, tmp_path, level, mode):
        metric = "hamming" if level == "b1" else "euclidean"
        built = nseekfs.from_embeddings(ROWS, metric, level=level, seed=5)
        built.save(tmp_path / "x.bin")
        for verify in get_args(_typing.Verify):
            loaded = nseekfs.load_index(tmp_path / "x.bin", mode=mode, verify=verify, ann=False)
            assert (loaded.metric, loaded.level, loaded.seed) == (metric, level, 5)
            assert answers(loaded) == answers(built)
            loaded.verify()

    def test_the_same_input_gives_the_same_file(self, tmp_path):
        paths = [nseekfs.create_index(ROWS, tmp_path, base_name=str(n), threads=n) for n in (1, 2)]
        assert filecmp.cmp(*paths, shallow=False)

    def test_saving_over_the_file_that_it_maps(self, path):
        index = nseekfs.load_index(path)
        expected = answers(index)
        index.save(path)
        assert answers(index) == answers(nseekfs.load_index(path, verify="full")) == expected

    def test_replacing_a_file_leaves_open_indexes_alone(self, path):
        index = nseekfs.load_index(path)
        expected = answers(index)
        nseekfs.create_index(ROWS[::-1].copy(), os.path.dirname(path), base_name="rows")
        assert answers(index) == expected
        assert answers(nseekfs.load_index(path)) != expected

    def test_nothing_is_written_without_a_path(self, tmp_path):
        code = (
            "import nseekfs, numpy as np; x = np.eye(9, dtype='f4');"
            "i = nseekfs.from_embeddings(x, level='f8'); i.query(x[0]); i.search(x); repr(i); i.close()"
        )
        env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, timeout=60)
        assert os.listdir(tmp_path) == []

    def test_the_callers_arrays_are_never_changed(self, tmp_path):
        random = np.random.default_rng(32)
        for dtype in ("f2", "f4", "f8", ">f4", "i4"):
            rows = (random.standard_normal((50, 9)) * 10).astype(dtype)
            allowed = np.array([5, 3, 3, 1])
            before, allowed_before = rows.copy(), allowed.copy()
            index = nseekfs.from_embeddings(rows, output_dir=tmp_path)
            index.query(rows[0], filter=allowed)
            index.search(rows, similarity="l2", filter=allowed)
            index[:][:] = 0
            assert rows.tobytes() == before.tobytes()
            assert allowed.tobytes() == allowed_before.tobytes()

    def test_changing_the_input_later_does_not_change_the_index(self):
        rows = ROWS.copy()
        index = nseekfs.from_embeddings(rows)
        expected = answers(index)
        rows[:] = 0
        assert answers(index) == expected


class TestPickle:
    def test_a_saved_index_pickles_as_its_path(self, path):
        index = nseekfs.load_index(path, mode="ram")
        again = pickle.loads(pickle.dumps(index))
        assert len(pickle.dumps(index)) < 1000
        assert again.path == path
        assert answers(again) == answers(index)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize(
        "options", [{}, {"level": "f8", "metric": "l2", "seed": 5}, {"level": "f64"}, {"ann": "ivf"}, {"ann": "lsh"}]
    )
    def test_an_index_in_memory_pickles_as_its_bytes(self, options, protocol):
        index = nseekfs.from_embeddings(ROWS, method="scalar", **options)
        again = pickle.loads(pickle.dumps(index, protocol))
        assert again.path is None
        for name in ("rows", "dims", "level", "metric", "normalized", "ann", "codes", "seed", "nbytes"):
            assert getattr(again, name) == getattr(index, name)
        assert answers(again) == answers(index)
        assert again.query(ROWS[5], method="auto").certificate == index.query(ROWS[5], method="auto").certificate
        again.verify()
        index.close()
        assert pickle.loads(pickle.dumps(again))[:].tobytes() == again[:].tobytes()

    def test_its_bytes_may_go_beside_the_pickle(self, index):
        buffers = []
        small = pickle.dumps(index, 5, buffer_callback=buffers.append)
        assert len(small) < 1000
        raw = [bytearray(buffer.raw()) for buffer in buffers]
        assert sum(map(len, raw)) >= ROWS.nbytes
        again = pickle.loads(small, buffers=raw)
        raw[0][:] = bytes(len(raw[0]))
        assert answers(again) == answers(index)
        with pytest.raises(nseekfs.FormatError, match="pickled index"):
            pickle.loads(small, buffers=raw)

    def test_a_damaged_pickle_is_refused(self, index):
        whole = pickle.dumps(index)
        start = whole.index(ROWS[7].tobytes())
        for place in (start, start + 400, whole.index(b"\x89NSK") + 70):
            changed = bytearray(whole)
            changed[place] ^= 1
            with pytest.raises(nseekfs.FormatError, match=r"pickled index: F\d"):
                pickle.loads(changed)

    def test_a_saved_one_pickles_as_its_path(self, index, tmp_path):
        index.save(tmp_path / "now.bin")
        assert len(pickle.dumps(index)) < 1000
        assert answers(pickle.loads(pickle.dumps(index))) == answers(index)

    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
    def test_copies_answer_and_are_closed_and_tuned_apart(self, how, index, path):
        for first in (index, nseekfs.load_index(path, mode="ram"), nseekfs.from_embeddings(ROWS, ann="ivf")):
            expected, where, ann = answers(first), first.path, first.ann
            second = how(first)
            if ann.kind == "ivf":
                second.tune(0.5)
                assert (first.ann, second.ann.recall) == (ann, 0.5)
            assert (second.path, second.nbytes) == (where, first.nbytes)
            first.close()
            assert answers(second) == expected or ann.kind == "ivf"
            with pytest.raises(nseekfs.InputError, match="closed"):
                how(first)


def test_everything_public_is_there():
    for name in nseekfs.__all__:
        assert getattr(nseekfs, name) is not None
    assert nseekfs.__version__ == _core.__version__
    assert set(nseekfs.simd_info()) == {"available", "used"}
    assert issubclass(nseekfs.InputTypeError, TypeError)
    assert issubclass(nseekfs.InputError, ValueError)
    assert issubclass(nseekfs.FormatError, ValueError)
    assert not issubclass(nseekfs.FormatError, nseekfs.InputError)


def test_import_brings_in_nothing_but_numpy():
    code = (
        "import sys, numpy; before = set(sys.modules); import nseekfs;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; print(*sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) <= {"nseekfs", "numpy", "dataclasses", "copy"}  # copy is what dataclasses imports
