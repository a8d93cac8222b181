"""Measure how nseekfs affects the rest of a process: `python benches/manners.py`.

The program prints the speed of another Python thread during a long search with one thread, the time from an interrupt
to KeyboardInterrupt in a build and in a search, and whether children that are forked after a search get the same
answers.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time

import nseekfs
import numpy as np

BUILD = "nseekfs.from_embeddings(x)"
SEARCH = "index.search(x[:20000], k=10)"
INTERRUPTED = """
import sys, time, numpy as np, nseekfs
x = np.random.default_rng(0).random((int(sys.argv[1]), 384), dtype=np.float32)
index = nseekfs.from_embeddings(x)
print('ready', flush=True)
try:
    while True:
        {call}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


def rate(seconds: float, stop: threading.Event) -> float:
    """Loop iterations a second of this thread, until `stop` is set or `seconds` have passed."""
    turns, start = 0, time.perf_counter()
    while not stop.is_set() and time.perf_counter() - start < seconds:
        turns += 1
    return turns / (time.perf_counter() - start)


def rate_kept(index: nseekfs.Index, seconds: float) -> tuple[float, float, float]:
    """The rate during a search of about `seconds`, relative to the rate alone; the seconds of the search; a control.

    The control is the relative rate beside another busy process, which shows the cost of sharing the machine.
    """
    rng = np.random.default_rng(1)
    queries = rng.random((256, index.dims), dtype=np.float32)
    start = time.perf_counter()
    index.search(queries, k=10, threads=1)
    repeats = max(1, round(seconds / (time.perf_counter() - start)))
    queries = np.tile(queries, (repeats, 1))
    alone = rate(1.0, threading.Event())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        control = rate(1.0, threading.Event())
        busy.kill()
    done, took = threading.Event(), []

    def search() -> None:
        start = time.perf_counter()
        index.search(queries, k=10, threads=1)
        took.append(time.perf_counter() - start)
        done.set()

    thread = threading.Thread(target=search)
    thread.start()
    beside = rate(60.0, done)
    thread.join()
    return beside / alone, took[0], control / alone


def interrupt(call: str, rows: int, after: float) -> float:
    """Seconds from the signal to KeyboardInterrupt."""
    command = [sys.executable, "-c", INTERRUPTED.format(call=call), str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(after)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        return float(child.stdout.readline()) - sent


def forked(index: nseekfs.Index, children: int, limit: float) -> int:
    """The number of forked children that give the answer of the parent within `limit` seconds."""
    query = np.random.default_rng(2).random((4, index.dims), dtype=np.float32)
    expected = index.search(query, k=10).indices
    fine = 0
    for _ in range(children):
        child = os.fork()
        if child == 0:
            signal.alarm(int(limit))
            os._exit(0 if np.array_equal(index.search(query, k=10).indices, expected) else 1)
        fine += os.waitpid(child, 0)[1] == 0
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of the search beside the other thread")
    parser.add_argument("--interrupts", type=int, default=5)
    parser.add_argument("--children", type=int, default=20)
    args = parser.parse_args()
    rows = np.random.default_rng(0).random((args.rows, 384), dtype=np.float32)
    index = nseekfs.from_embeddings(rows)
    kept, took, control = rate_kept(index, args.seconds)
    print(f"rate of another thread during a search of {took:.1f} s with threads=1: {kept:.0%} of its rate alone")
    print(f"rate of that thread beside another busy process: {control:.0%}")
    fine = forked(index, args.children, 30)
    print(f"forked children with the answer of the parent: {fine} of {args.children}")
    for name, call in (("build", BUILD), ("search", SEARCH)):
        times = [interrupt(call, args.rows, 0.3 + 0.17 * i) for i in range(args.interrupts)]
        print(f"interrupt to KeyboardInterrupt, {name}: at most {max(times):.3f} s in {len(times)} runs")


if __name__ == "__main__":
    main()
