"""``python -m nseekfs``: its output, its exit codes, and that it prints no traceback."""

import os
import subprocess
import sys

import nseekfs
import numpy as np
import pytest
from nseekfs import _tuning

ROWS = np.random.default_rng(61).standard_normal((9, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return nseekfs.create_index(ROWS, tmp_path, level="f16", metric="l2", seed=3)


def run(*arguments):
    """Exit code, stdout and stderr of the command."""
    command = [sys.executable, "-m", "nseekfs", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def damage(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def test_verify_says_fine(path):
    code, out, err = run("verify", path)
    assert (code, err) == (0, "")
    assert path in out
    assert "fine" in out


def test_names_that_are_not_utf8_are_printed(path, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.bin"
    os.rename(path, name)
    code, out, err = run("verify", os.fsdecode(name))
    assert (code, err) == (0, "")
    assert r"\udcff.bin: fine" in out
    nseekfs.from_embeddings(ROWS, ann="ivf").save(name)
    code, out, _ = run("tune", os.fsdecode(name), "--recall", "0.9")
    assert (code, out.splitlines()[-1]) == (0, f"{tmp_path}/\\udcff.bin: the default recall of queries is now 0.9")
    for arguments in (("info", b"/no/\xff"), ("tune", name, "--queries", name)):
        code, out, err = run(*map(os.fsdecode, arguments))
        assert (code, out, len(err.splitlines())) == (1, "", 1)


def test_tune_tells_each_line_as_it_is_measured(monkeypatch, capsys):
    """Of as many neighbours as there are rows; the queries of a target are not timed for long."""
    monkeypatch.setattr(_tuning, "PATIENCE", 0.0)
    rows = np.random.default_rng(62).standard_normal((3000, 4)).astype(np.float32)
    index, asked = nseekfs.from_embeddings(rows, ann="ivf"), []
    query = nseekfs.Index.query
    monkeypatch.setattr(nseekfs.Index, "query", lambda self, *rest, **how: asked.append(0) or query(self, *rest, **how))
    shown = []
    for line in _tuning.measure(index, None, 2990):
        assert len(asked) == _tuning.LEAST * (len(shown) + 1)
        said = capsys.readouterr()
        assert said.out.splitlines() == shown[-1:]
        assert f"{len(shown) + 1} of {len(_tuning.TARGETS)}" in said.err
        shown.append(f"{line.target}")
        print(shown[-1])
    capsys.readouterr()
    assert len(_tuning.show(index, _tuning.measure(index, rows[:10], 2990), 2990)) == len(_tuning.TARGETS)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(_tuning.TARGETS)


def test_info_tells_what_the_file_holds(path):
    code, out, err = run("info", path)
    assert (code, err) == (0, "")
    told = dict(line.split(": ") for line in out.splitlines())
    assert told["rows"] == "9"
    assert told["dims"] == "5"
    assert told["level"] == "f16"
    assert told["metric"] == "euclidean"
    assert told["seed"] == "3"
    assert told["normalized"] == "False"


def test_damage_exits_with_3(path, tmp_path):
    damage(path, -1 + (tmp_path / "index_f16.bin").stat().st_size)
    code, out, err = run("verify", path)
    assert (code, out) == (3, "")
    assert "F1" in err
    assert run("info", path)[0] == 0
    damage(path, 70)
    for command in ("verify", "info"):
        code, out, err = run(command, path)
        assert (code, out) == (3, "")
        assert len(err.splitlines()) == 1
        assert path in err


def test_what_is_no_index_exits_with_3(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    code, _, err = run("info", tmp_path / "rows.npy")
    assert code == 3
    assert ".npy" in err


def test_what_cannot_be_read_exits_with_1(tmp_path):
    for file in (tmp_path / "none.bin", tmp_path, ""):
        for command in ("verify", "info"):
            code, out, err = run(command, file)
            assert (code, out) == (1, "")
            assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), ("verify",), ("info",), ("destroy", "x"), ("info", "a", "b"), ("-x",)])
def test_wrong_usage_exits_with_2(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage" in err


def test_help_and_version_exit_with_0():
    assert run("--help")[0] == 0
    assert run("--version")[:2] == (0, f"nseekfs {nseekfs.__version__}\n")
