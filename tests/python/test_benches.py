"""The comparisons start as their help says; what they measure is no matter here."""

import subprocess
import sys
from pathlib import Path

import pytest

COMPARE = Path(__file__).parents[2] / "benches" / "compare.py"
SMALL = "--rows 300 --dims 8 --rounds 1 --seconds 0.001 --check 5 --work 1:1 --engines numpy"


@pytest.mark.parametrize("how", ["peers/bin/python", "./peers/bin/python", "{}/peers/bin/python"])
def test_peers_run_in_an_interpreter_named_from_the_current_folder(how, tmp_path):
    python = tmp_path / "peers" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = [sys.executable, COMPARE, "--peer-python", how.format(tmp_path), *SMALL.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "peers.py" in (tmp_path / "asked").read_text()
    assert "ABSENT" not in done.stdout
