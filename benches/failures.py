"""Force failures on error paths, and count how the processes end: `python benches/failures.py`.

Every failure happens in a process of its own, most of them forked from one that holds exact, ivf and lsh indexes. The
operations are builds, searches, saving, opening, pickling, tuning, k-means and the commands of `python -m nseekfs`. The
ways to make them fail:

    memory       no memory beyond what is mapped and some kilobytes (RLIMIT_AS), in steps up to what the operation takes
    descriptors  no file can be opened any more, or only one or two (RLIMIT_NOFILE)
    disk         files that cannot grow (RLIMIT_FSIZE), and a full tmpfs where one can be mounted, in steps
    threads      no thread can be started (RLIMIT_NPROC of another user)
    folders      a folder that is removed or that this user may not write to
    modules      `sys.path` and `sys.meta_path` emptied, and one module or all of nseekfs's removed
    interrupt    SIGINT at a random moment
    fork         a child forked while threads search
    shutdown     indexes that are used in atexit functions, in `__del__`, and in threads while the process ends
    start        memory and descriptors out before `import nseekfs` and in `python -m nseekfs`

A failure is well handled if it raises an exception of a known kind, if the index answers rightly afterwards, if the
file that was there is whole and nothing else is left in its folder. Everything else is a defect, listed with the last
words of the process; the exit status is then 1. Counted apart, as libc, is what we cannot help: glibc ends a process in
which a new thread finds no memory for its variables, as in a forked child that has the stacks of its parent's threads
and memory that it has freed, but gets no more. Answers are compared with those before any failure.
"""

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

import ways
from operations import World
from ways import ANSWERED, DEFECTS, FINE, HANG, LIBC, TALLY, TYPED, Attempt, Ended

WAYS = {
    "memory": (ways.memory, 0.30),
    "descriptors": (ways.descriptors, 0.14),
    "disk": (ways.disk, 0.12),
    "tmpfs": (ways.tmpfs, 0.06),
    "threads": (ways.threads, 0.06),
    "folders": (ways.folders, 0.02),
    "modules": (ways.modules, 0.10),
    "interrupt": (ways.interrupt, 0.10),
    "fork": (ways.fork, 0.03),
    "shutdown": (ways.shutdown, 0.05),
    "start": (ways.start, 0.02),
}
"""Each way, and its share of all attempts."""


def isolated(tried: Attempt, log: Path) -> tuple[str, str]:
    """The outcome of an attempt in a forked child, and the child's last words."""
    pid = os.fork()
    if pid == 0:
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(words, 2)
        os.dup2(words, 1)
        os.close(words)
        try:
            outcome = tried.run()
            os._exit((*FINE, *DEFECTS).index(outcome))
        except Ended:
            raise
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    end = time.monotonic() + HANG
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hang", ""
        time.sleep(0.0005)
    words = log.read_text(errors="replace").strip()
    if os.WIFSIGNALED(status):
        return "signal", f"signal {os.WTERMSIG(status)}: {words[:600]}"
    code = os.WEXITSTATUS(status)
    if code == 127 and "cannot allocate memory for thread-local data" in words:
        return LIBC, words[:600]
    outcome = (*FINE, *DEFECTS)[code] if code < len(FINE) + len(DEFECTS) else "untyped"
    if tried.way == "shutdown":
        outcome = "untyped" if "panicked" in words or code not in (0, FINE.index(TYPED)) else ANSWERED
    return outcome, words[:600]


def campaign(world: World, names: list[str], attempts: int, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts of (way, outcome), and the defects."""
    counts: Counter[tuple[str, str]] = Counter()
    defects = []
    for way in names:
        make, share = WAYS[way]
        began = time.monotonic()
        for tried in make(world, max(1, round(attempts * share)), Random(seed)):
            outcome, words = isolated(tried, world.folder / "words")
            counts[tried.way, outcome] += 1
            for number, earlier in enumerate(FINE):
                counts[tried.way, earlier] += TALLY[number]
            TALLY[:] = bytes(len(FINE))
            if outcome in DEFECTS:
                defects.append(f"{outcome}: {tried.way}, {tried.operation}, {tried.limit}: {words}")
        print(f"{way}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return counts, defects


def report(counts: Counter[tuple[str, str]], defects: list[str]) -> None:
    outcomes = (*FINE, LIBC, *DEFECTS)
    print("way".ljust(12), *(name.rjust(12) for name in outcomes))
    for way in dict.fromkeys(way for way, _ in counts):
        print(way.ljust(12), *(str(counts[way, outcome]).rjust(12) for outcome in outcomes))
    print(
        "all".ljust(12),
        *(str(sum(n for (_, o), n in counts.items() if o == outcome)).rjust(12) for outcome in outcomes),
    )
    failed = sum(n for (_, outcome), n in counts.items() if outcome != ANSWERED)
    print(f"{failed} forced failures, {len(defects)} defects")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--attempts", type=int, default=6000, help="processes, shared out among the ways")
    parser.add_argument("--rows", type=int, default=17_000, help="rows of the exact index; from 16385 on it has codes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent = os.getpid()
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(folder, args.rows)
        counts, defects = campaign(world, args.ways, args.attempts, args.seed)
        report(counts, defects)
        for defect in defects:
            print(defect)
        return 1 if defects else 0
    except Ended:
        return 0
    finally:
        if os.getpid() == parent:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
