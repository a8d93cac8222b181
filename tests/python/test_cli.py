"""``python -m nseekfs``: its output, its exit codes, and that it prints no traceback."""

import subprocess
import sys

import nseekfs
import numpy as np
import pytest

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
