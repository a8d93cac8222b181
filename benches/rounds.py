"""Timing of engines that run in processes of their own; both comparisons of compare.py use it.

Every round times every engine once, in an order that rotates by one from round to round, so that other load of the
machine affects all engines alike. Ratios compare times of the same round.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

OURS = "nseekfs"
OWN_PYTHON = (OURS, "nseekfs-exact")  # engines that run in this interpreter, not in that of the peers
PAUSE = 0.02  # seconds between two engines, so that the threads of the first stop spinning


def interpreter(name: str) -> str:
    """A path to Python from any folder, its links kept, which make an environment; a bare name is left to PATH."""
    name = os.path.expanduser(name)
    return os.path.abspath(name) if os.path.dirname(name) else name


class Process:
    """An engine in a process of its own, which answers requests."""

    def __init__(self, command: list[str], folder: Path, threads: int) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **{variable: str(threads) for variable in names}},
        )
        self.hello = self.read()

    def read(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"exit status {self.child.wait()}"}
        return answer

    def request(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.child.stdin.flush()
        answer = self.read()
        if "error" in answer:
            raise ChildProcessError(answer["error"])
        return answer

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait()


def start(
    args: argparse.Namespace, script: str, table: Path, threads: int, options: dict[str, Any]
) -> dict[str, Process]:
    """Start the engines. Those that cannot be imported are reported and omitted."""
    running = {}
    for name in args.engines:
        python = sys.executable if name in OWN_PYTHON else args.peer_python
        arguments = [name, str(table), args.metric, str(args.k), str(threads), json.dumps(options)]
        process = Process([python, str(Path(script).resolve()), *arguments], table.parent, threads)
        if "error" in process.hello:
            print(f"ABSENT  {name}: {process.hello['error']}", flush=True)
            process.close()
            continue
        print(f"{name}: {process.hello['version']}; built in {process.hello['build_seconds']:.2f} s", flush=True)
        running[name] = process
    if args.base not in running:
        sys.exit(f"{args.base} itself cannot be imported" + (": make build" if args.base == OURS else ""))
    return running


def measure(running: dict[str, Process], plans: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a call, one value a round; an engine slower than --patience keeps the value of its trial."""
    names = [name for name in running if name == args.base or plans[name]["seconds"] <= args.patience]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(args.rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(PAUSE)
            seconds[name].append(running[name].request("measure")["seconds"])
    return {name: seconds.get(name, [plans[name]["seconds"]]) for name in running}


def ratios(seconds: list[float], base: list[float]) -> list[float]:
    """Time divided by that of the base, round by round; by its median for a peer that was measured once."""
    pairs = np.array(seconds) / (np.array(base) if len(seconds) == len(base) else np.median(base))
    return [float(ratio) for ratio in pairs]


def quartiles(values: Any, digits: int) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def print_header(args: argparse.Namespace, table: np.ndarray[Any, Any], kind: str) -> None:
    print(
        f"{table.shape[0]} x {table.shape[1]} float32 ({table.nbytes / 1e6:.0f} MB), {kind}, "
        f"seed {args.seed}, k={args.k}, {args.metric}, {args.rounds} rounds\n",
        flush=True,
    )


def in_words(setting: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in setting.items())


def print_table(rows: list[list[str]]) -> None:
    """Print rows as an aligned Markdown table; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print(flush=True)
