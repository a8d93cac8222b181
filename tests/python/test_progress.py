"""Progress that is true to the end, in everything that takes long."""

import functools
import itertools
import os
import sys
import types

import nseekfs
import numpy as np
import pytest
from nseekfs.cluster import KMeans, MiniBatchKMeans, SubspaceMiniBatchKMeans

RNG = np.random.default_rng(3)
CODED = RNG.standard_normal((4200, 256), dtype=np.float32)
SOME = RNG.standard_normal((6000, 24), dtype=np.float32)
MANY = RNG.standard_normal((40_000, 32), dtype=np.float32)
TUNED = nseekfs.from_embeddings(MANY, ann="ivf")
LARGE = nseekfs.from_embeddings(CODED.repeat(5, axis=0), codes=False)


def build(progress, folder, **options):
    with nseekfs.from_embeddings(CODED, progress=progress, threads=1, **options) as index:
        return index.codes


ENTRIES = {
    "from_embeddings": build,
    "from_embeddings, to a file": lambda progress, folder: build(progress, folder, output_dir=folder),
    "from_embeddings, cells": lambda progress, folder: build(progress, folder, ann="ivf"),
    "from_embeddings, buckets": lambda progress, folder: build(progress, folder, ann="lsh"),
    "from_embeddings, rows only": lambda progress, folder: nseekfs.from_embeddings(
        CODED.repeat(5, axis=0), progress=progress, threads=1, codes=False
    ),
    "create_index": lambda progress, folder: nseekfs.create_index(
        SOME, folder, ann="ivf", progress=progress, threads=1
    ),
    "tune": lambda progress, folder: TUNED.tune(progress=progress, threads=1),
    "save": lambda progress, folder: LARGE.save(folder / "index.bin", progress=progress),
    "KMeans": lambda progress, folder: KMeans(32, progress=progress, threads=1).fit(SOME),
    "MiniBatchKMeans": lambda progress, folder: MiniBatchKMeans(32, progress=progress, threads=1).fit(SOME),
    "SubspaceMiniBatchKMeans": lambda progress, folder: SubspaceMiniBatchKMeans(
        32, 4, progress=progress, threads=1
    ).fit(SOME),
}
over_all = pytest.mark.parametrize("work", ENTRIES.values(), ids=ENTRIES.keys())


@over_all
def test_progress_grows_to_the_whole_which_is_told_once(work, tmp_path):
    heard = []
    work(lambda done, total: heard.append((done, total)), tmp_path)
    assert len(heard) >= 20
    assert {total for _, total in heard} == {heard[-1][1]}
    done = [done for done, _ in heard]
    assert all(type(number) is int for pair in heard for number in pair)
    assert all(before < after for before, after in itertools.pairwise(done))
    assert done[-1] == heard[-1][1]


@over_all
@pytest.mark.parametrize("raised", [KeyError("enough"), KeyboardInterrupt(), StopIteration(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_what_progress_raises_comes_out_and_nothing_is_left_behind(work, raised, share, tmp_path):
    heard = []

    def stop(done, total):
        heard.append(done)
        if done >= share * total:
            raise raised

    with pytest.raises(type(raised)) as caught:
        work(stop, tmp_path)
    assert caught.value is raised
    assert heard[-1] < 1000
    assert [done for done in heard if done >= share * 1000] == heard[-1:]
    assert os.listdir(tmp_path) == []


@over_all
def test_what_progress_raises_at_the_end_comes_out(work, tmp_path):
    def stop(done, total):
        if done == total:
            raise StopIteration("over")

    with pytest.raises(StopIteration, match="over"):
        work(stop, tmp_path)


def test_a_fit_that_progress_ends_leaves_the_fit_before():
    found = KMeans(4, seed=1).fit(SOME)
    before = found.centroids
    found.progress = lambda done, total: 1 / 0
    with pytest.raises(ZeroDivisionError):
        found.fit(SOME[:100])
    assert found.centroids is before


def test_a_save_that_progress_ends_leaves_the_file_before(tmp_path):
    path = tmp_path / "index.bin"
    nseekfs.from_embeddings(SOME[:3]).save(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        LARGE.save(path, progress=lambda done, total: 1 / 0)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["index.bin"]


def test_a_tuning_that_progress_ends_leaves_the_tuning_before():
    before = TUNED.ann
    with pytest.raises(ZeroDivisionError):
        TUNED.tune(0.5, progress=lambda done, total: 1 / 0)
    assert TUNED.ann == before


@pytest.mark.parametrize("nothing", [None, False])
@over_all
def test_nothing_is_told_where_nobody_listens(work, nothing, tmp_path, capfd):
    work(nothing, tmp_path)
    assert capfd.readouterr() == ("", "")


class Bar:
    """What is used of tqdm."""

    def __init__(self, made, *, total, desc, bar_format):
        self.total, self.n, self.closed, self.desc = total, 0, False, desc
        made.append(self)

    def update(self, more):
        assert more > 0
        assert not self.closed
        self.n += more

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    made = []
    module = types.ModuleType("tqdm.auto")
    module.tqdm = functools.partial(Bar, made)
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return made


@over_all
def test_true_draws_a_bar_of_tqdm_to_its_end(work, tmp_path, bars):
    work(True, tmp_path)
    [bar] = bars
    assert (bar.n, bar.closed) == (bar.total, True)
    assert bar.desc.startswith("nseekfs ")


def test_a_bar_is_closed_where_the_work_fails(bars):
    with pytest.raises(nseekfs.InputError, match="NaN"):
        nseekfs.from_embeddings([[np.nan]], progress=True)
    [bar] = bars
    assert (bar.n, bar.closed) == (0, True)


@over_all
def test_true_without_tqdm_is_refused_before_any_work(work, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    for name in ("Builder", "train", "train_batches"):
        monkeypatch.delattr(nseekfs._core, name)
    with pytest.raises(nseekfs.Error, match="pip install tqdm"):
        work(True, tmp_path)
    assert os.listdir(tmp_path) == []


@over_all
@pytest.mark.parametrize("wrong", [1, "yes", [print]])
def test_anything_else_is_refused(work, wrong, tmp_path):
    with pytest.raises(nseekfs.InputTypeError, match="progress: expected a callable, True or None, got"):
        work(wrong, tmp_path)
