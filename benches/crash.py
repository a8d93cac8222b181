"""Kills a writer again and again, and counts what was lost.

A child process changes an index in a file: it adds, replaces and deletes rows, alone and in batches, and now and then
compacts. Before each change it notes what it is about to do, after each what the call has acknowledged, both in a file
that is synced by nobody and survives a kill because the system holds it. The parent kills the child at a random moment,
opens the file with every byte checked, and compares: the index is the state after the last acknowledged change, or that
after the change that was being made. Then the next child goes on from there.

    python benches/crash.py --kills 20000
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np

DIMS = 6


def rows_of(ids: list[Any], turn: int) -> np.ndarray[Any, Any]:
    """Rows that follow from their ids and the number of the change."""
    return np.array([np.random.default_rng([abs(hash_of(one)), turn]).integers(-9, 10, DIMS) for one in ids], "f4")


def hash_of(one: Any) -> int:
    """A number for an id that is the same in every process."""
    return one if isinstance(one, int) else int.from_bytes(str(one).encode(), "little") % (1 << 60)


def plan(state: dict[str, int], turn: int, seed: int) -> list[tuple[str, list[Any]]]:
    """The changes of one turn, which follow from the state before and a seed: a batch where there are several."""
    choose = random.Random(f"{seed} {turn}")
    changes: list[tuple[str, list[Any]]] = []
    for _ in range(choose.choice([1, 1, 1, 3])):
        kind = choose.choice(["upsert", "upsert", "delete", "compact"] if turn % 20 == 0 else ["upsert", "delete"])
        known = list(state)
        if kind == "delete":
            ids = choose.sample(known, min(len(known), choose.randint(0, 4)))
        else:
            ids = list({f"row {choose.randint(0, 300)}" for _ in range(choose.randint(1, 9))})
        changes.append((kind, ids))
    return [("compact", [])] if any(kind == "compact" for kind, _ in changes) else changes


def apply(state: dict[str, int], changes: list[tuple[str, list[Any]]], turn: int) -> None:
    """The same changes of the model: the turn in which each row was written, in the order of insertion."""
    for kind, ids in changes:
        for one in ids if kind != "compact" else []:
            state.pop(one, None)
            if kind == "upsert":
                state[one] = turn


def work(path: Path, log: Path, turn: int, seed: int, state: dict[str, int]) -> None:
    """The child: changes until it is killed."""
    with open(log, "a", buffering=1) as notes:
        index = nseekfs.load_index(path, writable=True, verify="header")
        while True:
            turn += 1
            changes = plan(state, turn, seed)
            notes.write(f"begin {turn}\n")
            if len(changes) > 1:
                with index.batch():
                    for change in changes:
                        make(index, change, turn)
            else:
                make(index, changes[0], turn)
            notes.write(f"done {turn}\n")
            apply(state, changes, turn)


def make(index: nseekfs.Index, change: tuple[str, list[Any]], turn: int) -> None:
    kind, ids = change
    if kind == "compact":
        index.compact()
    elif kind == "delete":
        index.delete(ids)
    elif ids:
        index.upsert(rows_of(ids, turn), ids)


def same(index: nseekfs.Index, state: dict[str, int]) -> bool:
    """Whether the index holds these rows in this order."""
    if list(index.ids) != list(state):
        return False
    wanted = [rows_of([one], turn)[0] for one, turn in state.items()]
    return not state or np.array_equal(index[:], np.array(wanted))


def campaign(kills: int, seconds: float, seed: int) -> dict[str, int]:
    """Counts of what was found after each kill."""
    counts = {
        "kills": 0,
        "changes": 0,
        "in the middle, made": 0,
        "in the middle, not made": 0,
        "wrong": 0,
        "left over": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "index.bin", Path(folder) / "log"
        nseekfs.empty(DIMS, "dot", path=path).close()
        state: dict[str, int] = {}
        turn, choose, end = 0, random.Random(seed), time.monotonic() + seconds
        while counts["kills"] < kills and time.monotonic() < end:
            log.write_text("")
            child = os.fork()
            if child == 0:
                try:
                    work(path, log, turn, seed, dict(state))
                finally:
                    os._exit(1)
            time.sleep(choose.random() * 0.06)
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if not os.WIFSIGNALED(status):
                raise RuntimeError("the writer ended by itself")
            counts["kills"] += 1
            begun = False
            for line in log.read_text().splitlines():
                word, number = line.split()
                if word == "done":
                    apply(state, plan(state, int(number), seed), int(number))
                    turn, begun = int(number), False
                    counts["changes"] += 1
                else:
                    begun = True
            after = dict(state)
            if begun:
                apply(after, plan(state, turn + 1, seed), turn + 1)
            with nseekfs.load_index(path, writable=True, verify="full") as index:
                if begun and same(index, after):
                    state, turn = after, turn + 1
                    counts["in the middle, made"] += 1
                elif same(index, state):
                    counts["in the middle, not made"] += begun
                    turn += begun
                else:
                    counts["wrong"] += 1
                    print("wrong after", json.dumps(counts), file=sys.stderr)
                    return counts
            counts["left over"] += sorted(os.listdir(folder)) != ["index.bin", "log"]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts = campaign(options.kills, options.seconds, options.seed)
    for name, count in counts.items():
        print(f"{count:8}  {name}")
    sys.exit(counts["wrong"] + counts["left over"] > 0)


if __name__ == "__main__":
    main()
