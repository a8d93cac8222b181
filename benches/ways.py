"""How `failures.py` makes operations fail: a generator of attempts for each way.

An attempt runs in a child of its own. The operation runs between two functions, one that takes something away and one
that gives it back; then indexes must answer and files must be whole.
"""

import atexit
import ctypes
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nseekfs
from operations import WRITERS, World

HANG = 60
"""Seconds after which a process counts as one that hangs."""
NOBODY = 65534
ANSWERED, TYPED, MEMORY = "answered", "typed", "MemoryError"
FINE = (ANSWERED, TYPED, MEMORY)
LIBC = "libc"
DEFECTS = ("signal", "untyped", "wrong", "left", "hang")
EXPECTED = (nseekfs.Error, OSError, ImportError, KeyboardInterrupt)
"""What a failure may raise, beside MemoryError. Python itself raises other exceptions where modules are gone."""
UNTYPED = (SystemError, AssertionError)


class Attempt(NamedTuple):
    """One forced failure: what fails, how, and the process in which it does."""

    way: str
    operation: str
    limit: str
    run: Callable[[], str]


TALLY = mmap.mmap(-1, len(FINE))
"""Shared with children: how many operations before the last of an attempt ended well, by outcome."""


def attempt(
    world: World, name: str, limit: Callable[[], None], lift: Callable[[], None], before: tuple[str, ...] = ()
) -> str:
    """In a child: the outcome of an operation under a limit, after that of others, all judged when it is lifted."""
    limit()
    for other in before:
        outcome = once(world, other, lift)
        if outcome not in FINE:
            return outcome
        TALLY[FINE.index(outcome)] += 1
    outcome = once(world, name, lift)
    lift()
    return world.judge() or outcome if outcome in FINE else outcome


def once(world: World, name: str, lift: Callable[[], None]) -> str:
    """The outcome of one operation; the limit is lifted to tell of a defect."""
    try:
        answer = world.operations[name]()
        return ANSWERED if answer == world.expected.get(name, answer) else "wrong"
    except MemoryError:
        return MEMORY
    except EXPECTED:
        return TYPED
    except BaseException as error:
        # A panic is a BaseException of PyO3. What Python itself raises where it lacks memory or modules is fine.
        if isinstance(error, (Exception, SystemExit)) and not isinstance(error, UNTYPED):
            return TYPED
        lift()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "untyped"


def limited(kind: int, soft: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions: one lowers the soft limit, the other restores it."""
    before = resource.getrlimit(kind)
    return lambda: resource.setrlimit(kind, (soft, before[1])), lambda: resource.setrlimit(kind, before)


def mapped_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def peak_growth(world: World, name: str) -> int:
    """Bytes that an operation maps at most, by its own measure in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        low = mapped_bytes()
        world.operations[name]()
        status = Path("/proc/self/status").read_text().splitlines()
        peak = int(next(line for line in status if line.startswith("VmPeak")).split()[1]) * 1024
        os.write(writer, str(max(peak - low, 1 << 20)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        grown = int(answer.read())
    os.waitpid(pid, 0)
    return grown


def memory(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:
    trim = ctypes.CDLL(None).malloc_trim
    each = max(1, count // len(world.operations))
    for name in world.operations:
        peak = peak_growth(world, name)
        for step in range(each):
            # In one of four attempts memory ends somewhere in the operation; in the others it is all but gone.
            whole = step % 4 == 0
            room = peak * step // each if whole else rng.randrange(1 << 17)

            def run(name: str = name, room: int = room, whole: bool = whole) -> str:
                trim(0)
                lower, lift = limited(resource.RLIMIT_AS, mapped_bytes() + room)
                hoard: list[bytes] = []

                def limit() -> None:
                    lower()
                    if not whole:
                        _fill(hoard)

                def free() -> None:
                    lift()
                    hoard.clear()

                others = () if whole else tuple(rng.sample(list(world.operations), OTHERS))
                return attempt(world, name, limit, free, others)

            yield Attempt("memory", name, f"{room} bytes{'' if whole else ', heap full'}", run)


OTHERS = 9
"""Operations that fail before the one of an attempt while the heap is full."""


def _fill(hoard: list[bytes]) -> None:
    """Take what the heap has left: large blocks first, then smaller ones."""
    for size in (1 << 20, 1 << 16, 1 << 12, 600):
        try:
            while True:
                hoard.append(bytes(size))
        except MemoryError:
            pass


def descriptors(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:  # noqa: ARG001
    opening = [name for name in world.operations if name in WRITERS or name.startswith(("load", "-m", "no such"))]
    for turn in range(count):
        # Other operations open nothing, and are tried less often.
        names = opening if turn % 4 else list(world.operations)
        name, left = names[turn // 4 % len(names)], turn % 3

        def run(name: str = name, left: int = left) -> str:
            used = os.dup(0)
            os.close(used)
            return attempt(world, name, *limited(resource.RLIMIT_NOFILE, used + left))

        yield Attempt("descriptors", name, f"{left} left", run)


def disk(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:  # noqa: ARG001
    size = os.path.getsize(world.files["exact"])
    for step in range(count):
        name = WRITERS[step % len(WRITERS)]
        room = size * step // count

        def run(name: str = name, room: int = room) -> str:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            return attempt(world, name, *limited(resource.RLIMIT_FSIZE, room))

        yield Attempt("disk", name, f"{room} bytes", run)


def tmpfs(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:  # noqa: ARG001
    size = os.path.getsize(world.files["exact"]) + (1 << 16)
    target = world.scratch / "target.bin"
    old = target.read_bytes()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(world.scratch)]
    if subprocess.run(mount, capture_output=True).returncode:
        print("no tmpfs can be mounted: left out")
        return
    try:
        target.write_bytes(old)
        for step in range(count):
            name = WRITERS[step % len(WRITERS)]
            room = size * step // count

            def run(name: str = name, room: int = room) -> str:
                filler = world.scratch / ".filler"
                filler.touch()
                free = os.statvfs(world.scratch)
                with open(filler, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - room, 1))
                return attempt(world, name, lambda: None, lambda: filler.unlink(missing_ok=True))

            yield Attempt("disk", name, f"tmpfs, {room} bytes", run)
    finally:
        subprocess.run(["umount", str(world.scratch)], check=True)


def threads(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:  # noqa: ARG001
    names = list(world.operations)
    for turn in range(count):
        name = names[turn % len(names)]

        def run(name: str = name) -> str:
            if os.geteuid() == 0:  # no limit on processes holds for root
                os.setgroups([])
                os.setuid(NOBODY)
            return attempt(world, name, *limited(resource.RLIMIT_NPROC, 0))

        yield Attempt("threads", name, "none", run)


def folders(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:  # noqa: ARG001
    for turn in range(count):
        name = WRITERS[turn % len(WRITERS)]

        def removed(name: str = name) -> str:
            moved = world.folder / f"moved-{os.getpid()}"
            return attempt(world, name, lambda: os.rename(world.scratch, moved), lambda: _back(moved, world.scratch))

        def read_only(name: str = name) -> str:
            user = os.geteuid()
            world.scratch.chmod(0o555)
            if user == 0:
                os.setgroups([])
                os.seteuid(NOBODY)

            def lift() -> None:
                os.seteuid(user)
                world.scratch.chmod(0o777)

            return attempt(world, name, lambda: None, lift)

        yield Attempt("folders", name, "removed", removed)
        yield Attempt("folders", name, "read-only", read_only)


def _back(moved: Path, home: Path) -> None:
    if moved.exists():
        shutil.rmtree(home, ignore_errors=True)
        os.rename(moved, home)


def modules(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:
    ours = [name for name in sys.modules if name.split(".")[0] == "nseekfs"]
    others = [name for name in sys.modules if name not in ours and name not in ("sys", "builtins")]
    names = list(world.operations)
    for turn in range(count):
        name = names[turn % len(names)]
        gone = ours if turn % 9 == 0 else [rng.choice(ours if turn % 3 == 0 else others)]

        def run(name: str = name, gone: list[str] = gone) -> str:
            kept = list(sys.path), list(sys.meta_path), dict(sys.modules)

            def limit() -> None:
                sys.path[:], sys.meta_path[:] = [], []
                for module in gone:
                    del sys.modules[module]

            def lift() -> None:
                sys.path[:], sys.meta_path[:] = kept[:2]
                sys.modules.update(kept[2])

            return attempt(world, name, limit, lift)

        yield Attempt("modules", name, "all of nseekfs" if len(gone) > 1 else gone[0], run)


def interrupt(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:
    names = list(world.operations)
    spent = {name: _seconds(world.operations[name]) for name in names}
    for turn in range(count):
        name = names[turn % len(names)]
        after = spent[name] * rng.random() + 1e-5

        def run(name: str = name, after: float = after) -> str:
            armed = [False]

            def stop(*_: object) -> None:
                if armed[0]:
                    armed[0] = False
                    raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
            signal.signal(signal.SIGINT, stop)

            def limit() -> None:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, after)

            def lift() -> None:
                armed[0] = False

            try:
                return attempt(world, name, limit, lift)
            except KeyboardInterrupt:  # between the operation and the end of its limit
                return world.judge() or TYPED

        yield Attempt("interrupt", name, f"after {after:.5f} s", run)


def _seconds(operation: Callable[[], bytes]) -> float:
    start = time.perf_counter()
    operation()
    return time.perf_counter() - start


def fork(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:  # noqa: ARG001
    names = [name for name in world.operations if "save" not in name]
    for turn in range(count):
        name = names[turn % len(names)]

        def run(name: str = name, turn: int = turn) -> str:
            done = threading.Event()

            def ask() -> None:
                while not done.is_set():
                    world.exact.search(world.queries, 20, threads=2)

            asking = threading.Thread(target=ask)
            asking.start()
            time.sleep(0.001 * (turn % 7))
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.alarm(HANG // 2)
                    code = FINE.index(attempt(world, name, lambda: None, lambda: None))
                finally:
                    os._exit(code)
            status = os.waitpid(pid, 0)[1]
            done.set()
            asking.join()
            return ANSWERED if status == 0 else "wrong" if os.WIFEXITED(status) else "signal"

        yield Attempt("fork", name, "while a thread searches", run)


class Ended(BaseException):
    """Unwinds a forked child so that its interpreter shuts down."""


def shutdown(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:
    names = list(world.operations)
    ways = ("atexit", "__del__", "daemon thread", "thread", "os._exit", "sys.exit in progress")
    for turn in range(count):
        name, how = names[turn // len(ways) % len(names)], ways[turn % len(ways)]

        def run(name: str = name, how: str = how, wait: float = 0.005 * rng.random()) -> str:
            operation = world.operations[name]
            searching = threading.Thread(target=_repeat, args=(operation,), daemon=how == "daemon thread")
            if how == "atexit":
                atexit.register(_quietly, operation)
            elif how == "__del__":
                sys.modules["late"] = Late(operation)  # type: ignore[assignment]
            elif how == "sys.exit in progress":
                try:
                    nseekfs.from_embeddings(world.few, progress=lambda *_: sys.exit(0))
                except SystemExit:
                    raise Ended from None
            else:
                searching.start()
                time.sleep(wait)
                if how == "os._exit":
                    os._exit(FINE.index(TYPED))
            raise Ended

        yield Attempt("shutdown", name, how, run)


class Late:
    """Runs an operation when the interpreter drops it."""

    def __init__(self, operation: Callable[[], bytes]) -> None:
        self.operation, self.quietly = operation, _quietly

    def __del__(self) -> None:
        self.quietly(self.operation)


def _quietly(operation: Callable[[], bytes], fine: Any = (Exception, SystemExit)) -> None:
    try:  # noqa: SIM105 - nothing can be imported at the end
        operation()
    except fine:
        pass


def _repeat(operation: Callable[[], bytes]) -> None:
    end = time.monotonic() + 0.02
    while threading.current_thread().daemon or time.monotonic() < end:
        _quietly(operation)


START = """
import resource, sys
import numpy
kind, room = int(sys.argv[1]), int(sys.argv[2])
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
soft = mapped + room if kind == resource.RLIMIT_AS else room
resource.setrlimit(kind, (soft, soft))
import nseekfs
from nseekfs import cli
sys.exit(cli.main(sys.argv[3:]))
"""
"""numpy comes first, because its BLAS sends the process a signal where it gets no memory."""
IMPORT_BYTES = 120 << 20
"""What importing nseekfs maps, and some more."""


def start(world: World, count: int, rng: random.Random) -> Iterator[Attempt]:
    for turn in range(count):
        kind, room = resource.RLIMIT_NOFILE, 3 + turn % 7
        if turn % 4:
            kind, room = resource.RLIMIT_AS, rng.randrange(IMPORT_BYTES)
        asked = ("verify", "info", "tune")[turn % 3]
        command = [sys.executable, "-X", "faulthandler", "-c", START, str(kind), str(room), asked, world.files["ivf"]]

        def run(command: list[str] = command) -> str:
            done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
            sys.stderr.write(done.stderr)
            if done.returncode < 0:
                return "signal"
            return ANSWERED if done.returncode == 0 else MEMORY if "emory" in done.stderr else TYPED

        yield Attempt("start", asked, f"limit {kind}: {room}", run)
