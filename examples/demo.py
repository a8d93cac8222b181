"""Search real texts by meaning, exactly and approximately, beside numpy: `make demo`.

Every answer is compared with float64 before its time is measured; a wrong one ends the demo. The texts and their
embeddings are in examples/data. `--rows` sets the size of the large table. No file is left behind.
"""

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nseekfs
import numpy as np
import numpy_search

DATA = Path(__file__).parent / "data"
Array = np.ndarray[Any, Any]
Way = Callable[[Array], Any]
"""A way to search for some queries."""
K = 10
LEAST_ROWS = 1000
SHOWN = ("Test fixtures providing", "modules providing various backoff", "MP3 technical info viewer")
"""How the descriptions begin whose answers are printed."""
FILTERED = "general serializaton framework"
"""How the description begins that is searched for with a filter."""


@dataclass
class Texts:
    """Some texts and their embeddings, in the same order."""

    lines: list[str]
    rows: Array

    @classmethod
    def read(cls, name: str) -> "Texts":
        lines = (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        return cls(lines, np.load(DATA / f"{name}_minilm_f16.npy").astype(np.float32))

    def find(self, start: str) -> int:
        """The number of the line that begins so."""
        return next(row for row, line in enumerate(self.lines) if line.startswith(start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large table (default: %(default)s)")
    parser.add_argument("--answer", nargs=2, metavar=("INDEX", "ANSWER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        return answer(*options.answer)
    if options.rows < LEAST_ROWS:
        parser.error(f"--rows: expected at least {LEAST_ROWS}, got {options.rows}")
    start = time.perf_counter()
    packages, wanted = Texts.read("packages"), Texts.read("package_queries")
    print(f"nseekfs {nseekfs.__version__} beside numpy {np.__version__} in float32, on {cpu()}")
    index = meaning(packages, wanted)
    exact(index, packages, wanted)
    approximate(packages, wanted)
    restricted(index, packages, wanted)
    reopened(index, wanted)
    large(packages.rows, wanted.rows, options.rows)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\nAll of this took {time.perf_counter() - start:.0f} s and at most {gigabytes:.1f} GB of memory.")
    return None


def meaning(packages: Texts, wanted: Texts) -> nseekfs.Index:
    """Build an index and print the best texts for some queries."""
    heading("1  Search by meaning")
    start = time.perf_counter()
    index = nseekfs.from_embeddings(packages.rows, metric="dot")
    seconds = time.perf_counter() - start
    say(
        f"{len(index):,} one-line descriptions of Debian packages. A language model turned each into an embedding: "
        f"{index.dims} numbers, a direction that is similar where the meaning is. The score of two texts is the dot "
        f"product of their embeddings: 1 for the same direction, near 0 for nothing in common. nseekfs took "
        f"{seconds:.1f} s to build an index of them."
    )
    for begin in SHOWN:
        shown(wanted.lines[wanted.find(begin)], index.query(wanted.rows[wanted.find(begin)], top_k=3), packages)
    return index


def exact(index: nseekfs.Index, packages: Texts, wanted: Texts) -> None:
    """Check exact search against float64, and time it beside numpy."""
    heading("2  Exact search")
    queries, table, count = wanted.rows, packages.rows, len(wanted.rows)
    ours = numpy_search.right(queries, table, index.search(queries, K).indices)
    say(
        f"The {K} best rows of the whole table, for {count} descriptions that are not in it. Rows and order are those "
        f"of float64 arithmetic for {ours} of {count}. All timings are medians, and both sides use all CPUs."
    )
    require(ours == count, "exact search differs from float64")
    columns("", "numpy", "nseekfs", "ratio")
    search = partial(index.search, k=K)
    compare({"one at a time": search}, queries[:100], table, one=True)
    compare({f"all {count} at once": search}, queries, table)


def approximate(packages: Texts, wanted: Texts) -> None:
    """Show the recall asked for, the recall had, and the time beside exact search."""
    heading("3  Approximate search")
    queries, few = wanted.rows, wanted.rows[:100]
    index = nseekfs.from_embeddings(packages.rows, metric="dot", ann="ivf")
    say(
        "Recall is the share of the best rows that a search finds. You name it; the build measures, on rows that it "
        "holds out, how few groups of similar rows (an inverted file, ivf) a query must visit for it. Below, the "
        f"recall of {len(queries)} descriptions that the build has not seen."
    )
    best = index.search(queries, K, recall=1).indices
    require(numpy_search.right(queries, packages.rows, best) == len(queries), "recall=1 differs from float64")
    recalls = (0.9, 0.95, 0.99)
    calls = [partial(numpy_search.one_by_one, partial(index.search, k=K, recall=part), few) for part in (1, *recalls)]
    slow, *times = numpy_search.medians(calls, 9)
    columns("one at a time", "recall had", "nseekfs", "than exact")
    line("exact", "1.000", duration(slow / len(few)), "")
    for asked, seconds in zip(recalls, times, strict=True):
        had = recall(index.search(queries, K, recall=asked).indices, best)
        line(f"recall={asked}", f"{had:.3f}", duration(seconds / len(few)), ratio(slow / seconds))


def restricted(index: nseekfs.Index, packages: Texts, wanted: Texts) -> None:
    """Search among the rows that a filter allows."""
    heading("4  A filter")
    python = np.array(["Python" in text for text in packages.lines])
    which = wanted.find(FILTERED)
    query = wanted.rows[which]
    say(
        f"A query may name the rows that it wants: here the {python.sum():,} whose text contains the word Python. "
        "The answer is exact among them."
    )
    found = index.search(wanted.rows, K, filter=python).indices
    same = numpy_search.right(wanted.rows, packages.rows, found, python) == len(wanted.rows)
    require(same, "filtered search differs from float64")
    shown(f"{wanted.lines[which]}, all rows", index.query(query, top_k=2), packages)
    shown(f"{wanted.lines[which]}, with the filter", index.query(query, top_k=2, filter=python), packages)


def reopened(index: nseekfs.Index, wanted: Texts) -> None:
    """Save the index, and let another process open the file and answer."""
    heading("5  Save, and open in another process")
    with tempfile.TemporaryDirectory() as folder:
        path, answers = Path(folder) / "packages.bin", Path(folder) / "answers.npz"
        index.save(path)
        subprocess.run([sys.executable, __file__, "--answer", path, answers], check=True)
        theirs, ours = np.load(answers), index.search(wanted.rows, K)
        same = all(np.array_equal(theirs[name], getattr(ours, name)) for name in ("indices", "scores"))
        require(same, "the opened file answers otherwise")
        say(
            f"One file of {path.stat().st_size / 1e6:.0f} MB. The other process opened it, every byte checked, in "
            f"{duration(float(theirs['seconds']))}, and gave the same rows and scores, bit for bit."
        )


def answer(path: str, answers: str) -> None:
    """The other process: open the index, search, and leave the answers in a file."""
    start = time.perf_counter()
    with nseekfs.load_index(path, verify="full") as index:
        seconds = time.perf_counter() - start
        found = index.search(Texts.read("package_queries").rows, K)
    np.savez(answers, indices=found.indices, scores=found.scores, seconds=seconds)


def large(rows: Array, queries: Array, count: int) -> None:
    """Build a large table and compare exact and approximate search on it with numpy."""
    heading(f"6  A table of {count:,} rows")
    print("Making the rows and building the index: one or two minutes for a million rows.", flush=True)
    start = time.perf_counter()
    made = blends(rows, count)
    middle = time.perf_counter()
    index = nseekfs.from_embeddings(made, metric="dot", level="f16", ann="ivf")
    del made
    sample, queries = queries[::2], queries[1::2]
    index.tune(queries=sample)
    built = time.perf_counter()
    say(
        f"The {min(count, len(rows)):,} texts, and rows made from them: a point between a text and one of its ten "
        "nearest, moved by six tenths of the difference between another text and one of its nearest. Made in "
        f"{middle - start:.0f} s; index of {index.nbytes / 1e9:.2f} GB (float16 rows, their codes, inverted lists) "
        f"built in {built - middle:.0f} s. Texts are unlike made rows, so the recall of 0.95 is tuned on {len(sample)} "
        f"descriptions and measured on {len(queries)} others."
    )
    beside(index, queries)


def beside(index: nseekfs.Index, queries: Array) -> None:
    """Compare exact and approximate search of a large index with numpy, on the rows that it stores."""
    count = len(index)
    table = np.empty((count, index.dims), np.float32)
    for first in range(0, count, 1 << 16):
        table[first : first + (1 << 16)] = index[first : first + (1 << 16)]
    best = index.search(queries, K, recall=1).indices
    require(numpy_search.right(queries, table, best) == len(queries), "exact search differs from float64")
    had = recall(index.search(queries, K).indices, best)
    ways: dict[str, Way] = {
        "exact (same as float64)": partial(index.search, k=K, recall=1),
        f"approximate (recall {had:.3f})": partial(index.search, k=K),
    }
    columns("one at a time", "numpy", "nseekfs", "ratio")
    compare(ways, queries[:5], table, one=True)
    columns("32 at once", "numpy", "nseekfs", "ratio")
    compare(ways, queries[:32], table)


def blends(texts: Array, count: int) -> Array:
    """Rows of length 1 in float16 with the spectrum of `texts` and as many close neighbours: the texts come first."""
    rng = np.random.default_rng(7)
    near = nseekfs.from_embeddings(texts, metric="dot").search(texts, 11).indices[:, 1:]
    made = np.empty((count, texts.shape[1]), np.float16)
    made[: len(texts)] = texts[:count]
    for first in range(len(texts), count, 1 << 14):
        size = min(1 << 14, count - first)
        (start, other), step = rng.integers(len(texts), size=(2, size)), rng.integers(10, size=(2, size))
        part = rng.random((size, 1), dtype=np.float32)
        block = (1 - part) * texts[start] + part * texts[near[start, step[0]]]
        block += np.float32(0.6) * (texts[near[other, step[1]]] - texts[other])
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        made[first : first + size] = block
    return made


def compare(ways: dict[str, Way], queries: Array, table: Array, *, one: bool = False) -> None:
    """Time some ways to search beside numpy, a line each; `one`: each query by a call of its own."""
    theirs = numpy_search.fastest(queries[:1] if one else queries, table, K)
    all_ways: list[Way] = [theirs, *ways.values()]
    calls = [partial(numpy_search.one_by_one, way, queries) if one else partial(way, queries) for way in all_ways]
    seconds = numpy_search.medians(calls, 5)
    slow, *times = (value / (len(queries) if one else 1) for value in seconds)
    for name, fast in zip(ways, times, strict=True):
        line(name, duration(slow), duration(fast), ratio(slow / fast))


def recall(found: Array, best: Array) -> float:
    """The mean share of the best rows that was found."""
    return float((found[:, :, None] == best[:, None, :]).any(axis=2).mean())


def require(holds: bool, otherwise: str) -> None:
    """End the demo where a check fails."""
    if not holds:
        sys.exit(f"\nFAILED: {otherwise}")


def heading(text: str) -> None:
    print(f"\n\n{text}\n{'-' * len(text)}")


def say(text: str) -> None:
    print(textwrap.fill(text, 80))


def shown(query: str, hits: nseekfs.Hits, packages: Texts) -> None:
    """A query and its hits, one a line."""
    print(f"\n  {textwrap.shorten(query, 78)}")
    for hit in hits:
        print(f"    {hit['score']:.3f}  {textwrap.shorten(packages.lines[hit['idx']], 69)}")


def columns(*titles: str) -> None:
    """The head of a table."""
    print()
    line(*titles)
    print(f"  {'-' * 76}")


def line(name: str, *cells: str) -> None:
    """A line of a table: its name to the left, the cells to the right."""
    print(f"  {name:<31}" + "".join(f"{cell:>15}" for cell in cells))


def duration(seconds: float) -> str:
    """A time in milliseconds, of three digits."""
    milliseconds = seconds * 1e3
    return f"{milliseconds:.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f} ms"


def ratio(value: float) -> str:
    """How many times as fast."""
    return f"{value:.{1 if value < 10 else 0}f} x"


def cpu() -> str:
    """The name of the CPU, and how many of them there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    main()
