"""Errors, drops and shutdowns never abort: a small run of benches/failures.py, which forces thousands of failures."""

import re
import subprocess
import sys
from pathlib import Path

FAILURES = Path(__file__).parents[2] / "benches" / "failures.py"


def test_hundreds_of_forced_failures_are_errors_and_indexes_answer_afterwards():
    command = [sys.executable, FAILURES, "--attempts", "450"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    forced = re.search(r"^(\d+) forced failures, 0 defects$", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert forced, done.stdout[-5000:]
    assert int(forced[1]) >= 200, done.stdout
