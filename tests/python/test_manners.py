"""Fork, Ctrl-C, threads, memory and truncated files: nothing hangs, nothing crashes, other threads run on.

Limits in seconds only end a hang; no test measures speed.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import nseekfs
import numpy as np
import pytest

HANG = 120
ROWS = np.random.default_rng(81).standard_normal((3000, 24)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return nseekfs.create_index(ROWS, tmp_path)


def run(code, *arguments, **options):
    """Run `code` in a process. A process that hangs is killed, which fails the test."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, **options)


def test_children_forked_after_use_answer(path):
    done = run(
        """
        import os, sys, signal, warnings
        import numpy as np, nseekfs
        warnings.simplefilter("ignore")
        mapped = nseekfs.load_index(sys.argv[1])
        rows = mapped[:]
        built = nseekfs.from_embeddings(rows)
        expected = mapped.search(rows[:200], 50, threads=2)
        for child in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                code = 1
                try:
                    for index in (mapped, built, nseekfs.from_embeddings(rows, threads=2)):
                        for threads in (None, 1, 2):
                            found = index.search(rows[:200], 50, threads=threads)
                            assert all(np.array_equal(a, b) for a, b in zip(found, expected))
                            assert index.query(rows[0], threads=threads)[0]["idx"] == 0
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            assert status == 0, (child, status)
            assert mapped.query(rows[1], threads=2)[0]["idx"] == 1
        print("answered")
        """,
        path,
    )
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr


def test_a_child_forked_while_another_thread_searches_answers():
    done = run(
        """
        import os, signal, threading, warnings
        import numpy as np, nseekfs
        warnings.simplefilter("ignore")
        rows = np.random.default_rng(0).standard_normal((20000, 32)).astype(np.float32)
        index = nseekfs.from_embeddings(rows)
        stop = threading.Event()
        def ask():
            while not stop.is_set():
                index.search(rows[:300], 10, threads=2)
        thread = threading.Thread(target=ask)
        thread.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                os._exit(0 if index.query(rows[5], threads=2)[0]["idx"] == 5 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        thread.join()
        print("answered")
        """
    )
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_worker_processes_reopen_a_saved_index(path, method, tmp_path):
    script = tmp_path / "workers.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, warnings
            import nseekfs
            def ask(index):
                return index.query(index[7], 3)
            if __name__ == "__main__":
                warnings.simplefilter("ignore")
                index = nseekfs.load_index(sys.argv[1])
                with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
                    assert all(hits == ask(index) for hits in pool.map(ask, [index] * 6))
                print("answered")
            """
        )
    )
    command = [sys.executable, str(script), path, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr


INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np, nseekfs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    rows = np.random.default_rng(0).standard_normal((100_000, 64)).astype(np.float32)
    index = nseekfs.from_embeddings(rows)
    threads = int(sys.argv[2])
    calls = {
        "batch": lambda: index.search(rows, 100, method="scalar", threads=threads),
        "build": lambda: [nseekfs.from_embeddings(rows, level="f8", threads=threads) for _ in range(10**6)],
        "query": lambda: [index.query(rows[0], threads=threads) for _ in range(10**9)],
    }
    def interrupt():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        calls[sys.argv[1]]()
        print("ended by itself")
    except KeyboardInterrupt:
        print("interrupted", index.query(rows[3], threads=2)[0]["idx"])
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("work", ["batch", "build", "query"])
def test_ctrl_c_ends_the_work_and_the_index_stays_usable(work, threads):
    done = run(INTERRUPTED, work, threads)
    assert (done.returncode, done.stdout) == (0, "interrupted 3\n"), done.stderr


def test_an_exception_of_a_signal_handler_ends_the_work():
    done = run(
        """
        import signal
        import numpy as np, nseekfs
        class Enough(Exception): pass
        def stop(*_): raise Enough
        rows = np.random.default_rng(0).standard_normal((100_000, 64)).astype(np.float32)
        index = nseekfs.from_embeddings(rows)
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            index.search(rows, 100, method="scalar")
        except Enough:
            print("enough")
        """
    )
    assert (done.returncode, done.stdout) == (0, "enough\n"), done.stderr


def test_other_threads_run_while_a_search_does():
    """The search runs in a thread and ends only when this thread has counted far enough."""
    rows = np.random.default_rng(82).standard_normal((50_000, 64)).astype(np.float32)
    index = nseekfs.from_embeddings(rows)
    searching, counted, during = threading.Event(), threading.Event(), []

    def search():
        while not counted.is_set():
            searching.set()
            before = ticks
            index.search(rows[:60], 10, method="scalar", threads=1)
            during.append(ticks - before)

    ticks = 0
    thread = threading.Thread(target=search)
    thread.start()
    searching.wait(HANG)
    end = time.monotonic() + HANG
    while (len(during) < 2 or max(during) < 1000) and time.monotonic() < end:
        ticks += 1
    counted.set()
    thread.join(HANG)
    assert max(during) >= 1000


def test_many_threads_share_an_index(path):
    index = nseekfs.load_index(path)
    expected = index.search(ROWS[:64], 20)
    wrong = []

    def ask(seed):
        for threads in np.random.default_rng(seed).integers(1, 4, 20):
            found = index.search(ROWS[:64], 20, threads=int(threads))
            if not all(np.array_equal(a, b) for a, b in zip(found, expected)):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


@pytest.mark.parametrize(
    "use", ["index.query(x)", "index.search([x, x])", "index[0]", "index.verify()", "index.save(sys.argv[1])"]
)
def test_a_mapped_file_cut_short_is_an_error_not_a_signal(path, use):
    done = run(
        f"""
        import os, sys, nseekfs
        index = nseekfs.load_index(sys.argv[1])
        x = index[0]
        os.truncate(sys.argv[1], 4096)
        try:
            {use}
        except nseekfs.FormatError as error:
            print("refused", "F16" in str(error))
        """,
        path,
    )
    assert (done.returncode, done.stdout) == (0, "refused True\n"), done.stderr


def test_a_killed_save_leaves_the_old_file_and_nothing_that_the_next_one_does_not_remove(path, tmp_path):
    """Killed ten times, somewhere in the writing of 64 MB."""
    save = """
        import sys, nseekfs, numpy as np
        index = nseekfs.from_embeddings(np.ones((250_000, 64), np.float32), codes=False)
        while True:
            print("saving", flush=True)
            index.save(sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(save), path]
    left = set()
    for turn in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as saving:
            for _ in range(1 + turn % 2):
                saving.stdout.readline()
            time.sleep(0.004 * turn)
            saving.kill()
        left |= {name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")}
        with nseekfs.load_index(path, verify="full") as whole:
            assert len(whole) in (len(ROWS), 250_000)
    nseekfs.from_embeddings(ROWS).save(path)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)], left


def peak(code, *arguments):
    """The growth of the peak resident size while `code` runs after `prepare`, in bytes."""
    done = run(
        "import resource, sys, numpy as np, nseekfs\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n" + textwrap.dedent(code),
        *arguments,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    "how", ["x", "x[:, ::-1]", "np.asfortranarray(x)", "x.astype('>f4')", "x.astype('f8')", "x.astype('f2')"]
)
def test_a_build_needs_no_second_copy_of_its_input(how):
    size = 64 << 20
    grown = peak(
        f"""
        x = np.ones(({size} // 1024, 256), np.float32)
        x[:, 0] = np.arange(len(x)) % 100
        rows = {how}
        del x
        before = peak()
        index = nseekfs.from_embeddings(rows)
        print(max(0, peak() - before - index.nbytes))
        """
    )
    assert grown < 48 << 20


def test_a_pickle_takes_one_copy_and_another_to_be_opened():
    size = 64 << 20
    grown = peak(
        f"""
        import pickle
        x = np.ones(({size} // 1024, 256), np.float32)
        index = nseekfs.from_embeddings(x, codes=False)
        del x
        buffers, before = [], peak()
        small = pickle.dumps(index, 5, buffer_callback=buffers.append)
        assert peak() - before < 1.2 * {size}
        index.close()
        assert len(pickle.loads(small, buffers=buffers)) == {size} // 1024
        print(max(0, peak() - before))
        """
    )
    assert grown < 80 << 20


def test_opening_a_file_does_not_read_it(tmp_path):
    rows = np.ones((64 << 10, 256), np.float32)
    path = nseekfs.create_index(rows, tmp_path)
    grown = peak(
        """
        nseekfs.from_embeddings([[1.0]]).query([1.0])
        before = peak()
        index = nseekfs.load_index(sys.argv[1], verify="header")
        print(peak() - before)
        """,
        path,
    )
    assert grown < 2 << 20


ERRORS = """
    import os, sys, resource
    import numpy as np, nseekfs
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")
    class Refusing:
        def __array__(self, dtype=None, copy=None):
            raise Mute
    damaged, folder = sys.argv[1], sys.argv[2]
    calls = {
        FileNotFoundError: [
            lambda: nseekfs.load_index("/no/such"),
            lambda: nseekfs.load_index(b"/no/\\xff"),
        ],
        OSError: [
            lambda: nseekfs.load_index(folder),
            lambda: nseekfs.from_embeddings(x).save(folder),
            lambda: nseekfs.from_embeddings(x).save("/no/such/index.bin"),
        ],
        (nseekfs.FormatError, OSError): [lambda: nseekfs.load_index(damaged)],
        nseekfs.InputError: [
            lambda: nseekfs.from_embeddings(x * np.nan),
            lambda: nseekfs.from_embeddings(x, metric="?"),
            lambda: nseekfs.from_embeddings(x, metric="\\udcff"),
            lambda: nseekfs.load_index("\\ud800"),
            lambda: nseekfs.from_embeddings(x, output_dir=folder, base_name="\\ud800"),
            lambda: nseekfs.from_embeddings(x).query(x),
        ],
        nseekfs.InputTypeError: [
            lambda: nseekfs.from_embeddings(Refusing()),
            lambda: nseekfs.from_embeddings(iter("ab")),
        ],
    }
    x = np.ones((3, 2), np.float32)
    if sys.argv[3] == "no imports":
        sys.path[:] = []
        sys.meta_path[:] = []
        del sys.modules["nseekfs._errors"]
    else:
        spare = os.dup(0)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, spare))
    seen = 0
    for kind, tried in calls.items():
        for call in tried:
            try:
                call()
            except kind as error:
                seen += bool(str(error))
    print(seen, "of", sum(map(len, calls.values())))
"""


@pytest.mark.parametrize("lack", ["no imports", "no descriptors"])
def test_errors_are_raised_where_nothing_can_be_imported_or_opened(lack, tmp_path):
    (tmp_path / "damaged.bin").write_bytes(b"no index")
    done = run(ERRORS, tmp_path / "damaged.bin", tmp_path, lack)
    told, _, all_of_them = done.stdout.partition(" of ")
    assert done.returncode == 0, done.stderr
    assert told == all_of_them.strip(), done.stdout


@pytest.mark.parametrize("lack", ["sys.path[:] = []", "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))"])
def test_a_missing_file_is_not_found_where_pathlib_cannot_be_imported(lack):
    done = run(
        f"""
        import nseekfs, sys, resource
        {lack}
        try:
            nseekfs.load_index("/no/such")
        except FileNotFoundError as error:
            print(error.filename)
        """
    )
    assert (done.returncode, done.stdout) == (0, "/no/such\n"), done.stderr


def test_errors_while_the_interpreter_shuts_down_are_errors():
    done = run(
        """
        import os
        import numpy as np, nseekfs
        class Late:
            def __init__(self):
                self.load, self.build, self.write = nseekfs.load_index, nseekfs.from_embeddings, os.write
                self.kinds = (OSError, nseekfs.Error)
                self.index = nseekfs.from_embeddings(np.ones((30_000, 64), np.float32), codes=False)
                self.rows = self.index[:300]
            def __del__(self):
                for call in (lambda: self.load("/no/such"), lambda: self.build([[float("nan")]], ann=True)):
                    try:
                        call()
                    except self.kinds as error:
                        self.write(1, type(error).__name__.encode() + b" ")
                self.index.search(self.rows, 9, method="scalar")  # long enough to look for an interruption
                self.write(1, b"searched")
        late = Late()
        """
    )
    assert (done.returncode, done.stdout) == (0, "FileNotFoundError InputError searched"), done.stderr


def test_a_search_of_a_daemon_thread_ends_with_the_process():
    done = run(
        """
        import threading, time
        import numpy as np, nseekfs
        class Slow:
            def __del__(self, sleep=time.sleep):
                sleep(0.3)  # a while in which the search finds the interpreter shutting down
        rows = np.random.default_rng(0).standard_normal((50_000, 64)).astype(np.float32)
        index, began = nseekfs.from_embeddings(rows, codes=False), threading.Event()
        def ask():
            began.set()
            while True:
                index.search(rows[:2000], 100, method="scalar")
        threading.Thread(target=ask, daemon=True).start()
        began.wait()
        slow = Slow()
        print("ended")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_signals_are_left_as_they_were():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBUS)}
    nseekfs.from_embeddings(ROWS).query(ROWS[0])
    assert {number: signal.getsignal(number) for number in before} == before


def test_where_no_thread_can_be_started_the_calling_thread_works_alone():
    done = run(
        """
        import os, resource
        import numpy as np, nseekfs
        rows = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)
        index = nseekfs.from_embeddings(rows, threads=1)
        expected = index.search(rows[:200], 10, threads=1)
        if os.geteuid() == 0:  # whom the limit does not hold
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        found = index.search(rows[:200], 10, threads=4)
        built = nseekfs.from_embeddings(rows, threads=4).search(rows[:200], 10)
        print(all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(expected, found, built)))
        """
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("use", ["index.search(rows[:200], 10)", "nseekfs.from_embeddings(rows[:2000], ann='ivf')"])
def test_without_any_memory_left_an_operation_is_a_memory_error_and_the_index_stays_usable(use):
    done = run(
        f"""
        import resource
        import numpy as np, nseekfs
        rows = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)
        index = nseekfs.from_embeddings(rows)
        {use}
        mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        hoard = []
        resource.setrlimit(resource.RLIMIT_AS, (mapped, resource.RLIM_INFINITY))
        for size in (1 << 20, 1 << 16, 1 << 12, 600):
            try:
                while True:
                    hoard.append(bytes(size))
            except MemoryError:
                pass
        try:
            {use}
        except MemoryError:
            hoard.clear()
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print("no memory", index.query(rows[7])[0]["idx"])
        """
    )
    assert (done.returncode, done.stdout) == (0, "no memory 7\n"), done.stderr
