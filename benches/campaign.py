"""Compare a hundred thousand queries with float64: row numbers, order, bits of scores and bits of keys.

    python benches/campaign.py --data packages.npy docs.npy --asked questions.npy

The tables are each file of --data, all files with noisy copies, the first file with the queries of --asked, and
generated tables (see tables.py). All of them have codes, except where they are too small. Queries come in groups of 200
with one level, metric, k and filter. They are rows, rows with noise, sums, random vectors, negated or scaled rows, and
zero. Each query runs alone, some again with a limit that equals a score of its own hits, and in batches of 1 to 130,
with 1 or 2 threads, on the index in memory. One group in 8 also runs on the mapped file, with one of the kernels of
this CPU. A float64 product selects the rows within 1e-9 of the k-th, and `tests/python/reference.py` ranks these.

The exit status is 1 if anything differs; the output then has the command that repeats the group. With default options,
the program takes a quarter of an hour on one core.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nseekfs
import numpy as np
import workload
from exactness import METRICS, reference, same
from tables import RULES

Array = np.ndarray[Any, Any]
Answer = tuple[Array, ...]  # row numbers, scores, keys
Kind = tuple[str, str, int]  # level, metric, k
Tally = tuple[Counter[Kind], Counter[Kind]]  # queries compared, and different
LEVELS = ("f32", "f64", "f16", "f8")
KS = (1, 10, 100, 1000)
BATCHES = (1, 5, 8, 16, 40, 130)
GROUP = sum(BATCHES)
# One group in this many also runs on the mapped file, with the next kernel.
KERNEL_EVERY = 8
# One query in this many runs again with a limit.
BOUND_EVERY = 8
JITTER = 0.03
# Kinds of queries: factors of one row, of another row, and of noise as long as the row; and their frequency.
KINDS = {
    "row": ((1, 0, 0), 0.20),
    "moved": ((1, 0, 0.01), 0.15),
    "moved further": ((1, 0, 0.5), 0.20),
    "sum": ((1, 1, 0), 0.15),
    "stranger": ((0, 0, 1), 0.12),
    "negated": ((-1, 0, 0), 0.08),
    "scaled": ((1, 0.5, 0.2), 0.098),
    "zero": ((0, 0, 0), 0.002),  # ties with every row, so that the reference takes long
}


class Spec(NamedTuple):
    """One table of the campaign."""

    name: str
    make: Callable[[np.random.Generator], Array]
    share: int  # of all queries, relative to the shares of other tables
    levels: tuple[str, ...] = LEVELS
    asked: str | None = None  # a .npy file of queries


class Group(NamedTuple):
    """Queries with one level, metric, k and filter, and their expected answers."""

    level: str
    metric: str
    k: int
    queries: Array
    allowed: Array | None  # a bool for every row, or row numbers
    expected: Answer | None = None


def specs(files: list[str], asked: str | None) -> list[Spec]:
    """The tables; tables whose queries take longer get smaller shares."""

    def ruled(name: str, rows: int, dims: int, share: int, levels: tuple[str, ...] = LEVELS) -> Spec:
        return Spec(f"{name} {dims}", lambda random: RULES[name](random, rows, dims), share, levels)

    def together(random: np.random.Generator) -> Array:
        base = np.concatenate([workload.read(file) for file in files])
        return workload.copies(random, base, len(base) * 11 // 10, JITTER)

    made = [Spec(Path(file).stem, lambda _, file=file: workload.read(file), 50) for file in files]
    if len(files) > 1:
        made.append(Spec("together", together, 25))
    if files and asked:
        made.append(Spec(f"{Path(files[0]).stem} asked", lambda _: workload.read(files[0]), 50, asked=asked))
    return [
        *made,
        ruled("gaussian", 100_003, 64, 55),
        ruled("gaussian", 30_011, 384, 45),
        ruled("gaussian", 50_021, 768, 20),
        ruled("gaussian", 16_001, 1536, 15, ("f32", "f8")),  # a build with that many dims takes long
        ruled("power_law", 120_011, 32, 45),
        ruled("power_law", 60_007, 200, 45),
        ruled("common", 30_013, 384, 40),
        ruled("duplicates", 40_009, 128, 40),
        ruled("integers", 50_021, 64, 40),
        ruled("lengths", 50_001, 96, 35),
        ruled("offset", 40_002, 256, 35),
    ]


def generator(options: argparse.Namespace, spec: Spec, *more: int) -> np.random.Generator:
    """A random generator that depends on the seed, the table and `more` only."""
    return np.random.default_rng([options.seed, seed_of(spec), *more])


def seed_of(spec: Spec) -> int:
    """A number derived from the name of the table."""
    return zlib.crc32(spec.name.encode())


def level_of(options: argparse.Namespace, spec: Spec, number: int) -> str:
    """The level of a group: the first in most groups."""
    others = len(spec.levels) - 1
    return str(generator(options, spec, number, 0).choice(spec.levels, p=[1 - 0.08 * others, *[0.08] * others]))


def draw(options: argparse.Namespace, spec: Spec, number: int, rows: Array) -> Group:
    """The queries and options of a group."""
    random = generator(options, spec, number, 1)
    metric, k = random.choice(METRICS, p=(0.6, 0.2, 0.2)), random.choice(KS, p=(0.25, 0.35, 0.25, 0.15))
    allowed = some(random, len(rows)) if random.random() < 0.3 else None
    base = rows if spec.asked is None else workload.read(spec.asked)
    queries = questions(random, base, rows, GROUP)
    return Group(level_of(options, spec, number), str(metric), int(k), queries, allowed)


def some(random: np.random.Generator, rows: int) -> Array:
    """A filter of single rows or runs, many or few: a mask, or row numbers in random order."""
    run = random.choice((1, 1, 3, 100, 2000))
    pieces = random.random(rows // run + 2) < random.choice((0.97, 0.6, 0.3, 0.04))
    pieces[random.integers(1, len(pieces) - 1)] = True
    start = random.integers(run)
    mask: Array = np.repeat(pieces, run)[start : start + rows]
    return mask if random.random() < 0.7 else random.permutation(np.flatnonzero(mask))


def questions(random: np.random.Generator, base: Array, rows: Array, count: int) -> Array:
    """Queries made of rows of `base`, other rows and noise, in float64."""
    shares, odds = zip(*KINDS.values())
    kind = random.choice(len(KINDS), size=count, p=odds)
    near, other = (table[random.integers(len(table), size=count)].astype(np.float64) for table in (base, rows))
    noise = random.standard_normal(near.shape) * np.sqrt(np.mean(near**2, axis=1, keepdims=True))
    parts = np.array(shares)[kind]
    made: Array = parts[:, :1] * near + parts[:, 1:2] * other + parts[:, 2:] * noise
    scaled = kind == list(KINDS).index("scaled")
    made[scaled] *= 10 ** random.uniform(-25, 12, (scaled.sum(), 1))
    return made


def ask(index: nseekfs.Index, group: Group) -> Iterator[tuple[str, slice, Answer, Answer]]:
    """Run a group in every way: the name of the way, the queries, the answers found and the answers expected."""
    assert group.expected is not None
    how: dict[str, Any] = {"similarity": group.metric, "filter": group.allowed}
    for i, query in enumerate(group.queries):
        part, threads = slice(i, i + 1), 1 + i % 2
        wanted = tuple(each[part] for each in group.expected)
        hits = index.query(query, group.k, threads=threads, **how)
        yield (
            f"alone, {threads} threads",
            part,
            tuple(each[None] for each in (hits.indices, hits.scores, hits.keys)),
            wanted,
        )
        if i % BOUND_EVERY == 0 and wanted[2].size:
            name, bound, reached = tie(wanted[2][0], group.metric)
            hits = index.query(query, group.k, threads=threads, **how, **{name: bound})
            found = tuple(each[None] for each in (hits.indices, hits.scores, hits.keys))
            yield f"alone, {name} {bound!r}", part, found, tuple(each[:, reached] for each in wanted)
    start = 0
    for turn, size in enumerate(BATCHES):
        part, threads = slice(start, start + size), 1 + (turn + group.k) % 2
        result = index.search(group.queries[part], group.k, threads=threads, **how)
        found = (result.indices, result.scores, result.keys)
        yield f"batch of {size}, {threads} threads", part, found, tuple(each[part] for each in group.expected)
        start += size


def tie(keys: Array, metric: str) -> tuple[str, float, Array]:
    """A limit equal to the score of a middle hit, and the hits that reach it."""
    reach = np.sqrt(keys) if metric == "euclidean" else keys
    bound = reach[len(reach) // 2]
    if metric == "euclidean":
        return "max_distance", float(bound), reach <= bound
    return "min_score", float(bound), reach >= bound


def compare(index: nseekfs.Index, group: Group) -> dict[str, Any]:
    """The number of answers compared, the queries that differ, and a description of the first difference."""
    answers, different, first = 0, set(), ""
    for way, part, found, wanted in ask(index, group):
        equal = same(found, wanted)
        answers += len(equal)
        for i in np.flatnonzero(~equal).tolist():
            different.add(part.start + i)
            first = first or f"query {part.start + i}, {way}: {place(found, wanted, i)}"
    return {"answers": answers, "different": sorted(different), "first": first}


def place(found: Answer, wanted: Answer, i: int) -> str:
    """The first difference between two answers to query `i`."""
    if found[0].shape != wanted[0].shape:
        return f"shape {found[0].shape}, expected {wanted[0].shape}"
    hits = [
        [(int(row), float(score).hex(), float(key).hex()) for row, score, key in zip(*(p[i] for p in parts))]
        for parts in (found, wanted)
    ]
    return next(f"hit {at} is {got}, expected {right}" for at, (got, right) in enumerate(zip(*hits)) if got != right)


def by_kernel(kernel: str, path: Path, group: Group) -> dict[str, Any]:
    """The result of `compare` in a process with that kernel, on the mapped file."""
    assert group.expected is not None
    allowed = {} if group.allowed is None else {"allowed": group.allowed}
    ids, scores, keys = group.expected
    about = np.array([group.level, group.metric, str(group.k)])
    np.savez(path.with_suffix(".npz"), about=about, queries=group.queries, ids=ids, scores=scores, keys=keys, **allowed)
    done = subprocess.run(
        [sys.executable, __file__, "--answer", path],
        env={**os.environ, "NSEEKFS_KERNEL": kernel},
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout))


def answer(path: Path) -> None:
    """The process that `by_kernel` starts."""
    with np.load(path.with_suffix(".npz")) as kept:
        level, metric, k = kept["about"].tolist()
        expected = kept["ids"], kept["scores"], kept["keys"]
        group = Group(level, metric, int(k), kept["queries"], kept.get("allowed"), expected)
    print(json.dumps(compare(nseekfs.load_index(path), group)))


def visit(options: argparse.Namespace, spec: Spec, numbers: list[int], folder: Path) -> Tally:
    """Run the groups of one table."""
    start, answers, codes = time.perf_counter(), 0, []
    compared, different = Counter[Kind](), Counter[Kind]()
    rows = spec.make(generator(options, spec))
    for level in spec.levels:
        chosen = [number for number in numbers if level_of(options, spec, number) == level]
        if not chosen:
            continue
        index = nseekfs.from_embeddings(rows, level=level, seed=options.seed)
        codes += [level] if index.codes else []
        index.save(path := folder / "index.bin")
        table = reference.Table(reference.stored(rows, level))
        for number in chosen:
            group = draw(options, spec, number, rows)
            mask = group.allowed is not None and group.allowed.dtype == bool
            allowed = np.flatnonzero(group.allowed) if mask else group.allowed
            group = group._replace(expected=table.top(group.queries, group.k, group.metric, allowed))
            told = {nseekfs.simd_info()["used"]: compare(index, group)}
            if kernel := mapped_by(spec, number):
                told[f"{kernel}, mapped"] = by_kernel(kernel, path, group)
            kind = (level, group.metric, group.k)
            compared[kind] += len(group.queries)
            different[kind] += len({i for each in told.values() for i in each["different"]})
            answers += sum(each["answers"] for each in told.values())
            for how, each in told.items():
                if each["different"]:
                    print(f"DIFFERENT {spec.name} {kind}, {how}: {len(each['different'])} queries; {each['first']}")
                    print(f"    repeat: {shlex.join(sys.argv)} --only {shlex.quote(spec.name)} --group {number}")
    print(
        f"{spec.name:27} {len(rows):7} x {rows.shape[1]:<4}  codes {','.join(codes) or 'none':11}  "
        f"{compared.total():6} queries  {answers:6} answers  {different.total()} different  "
        f"{time.perf_counter() - start:4.0f} s",
        flush=True,
    )
    return compared, different


def mapped_by(spec: Spec, number: int) -> str | None:
    """The kernel that also runs a group on the mapped file; None for most groups."""
    kernels = nseekfs.simd_info()["available"]
    turn, rest = divmod(number, KERNEL_EVERY)
    return None if rest else str(kernels[(turn + seed_of(spec)) % len(kernels)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], metavar="FILE.npy", help=".npy files of rows")
    parser.add_argument("--asked", metavar="FILE.npy", help="queries for the first file of --data")
    parser.add_argument("--queries", type=int, default=100_000, help="minimum number of queries over all tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="NAME", help="run this table only")
    parser.add_argument("--group", type=int, help="run this group of the table only")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answer(options.answer)
        return 0
    every = specs(options.data, options.asked)
    shares = sum(spec.share for spec in every)
    totals: list[tuple[str, Any, int, int]] = []
    for spec in every:
        if options.only not in (None, spec.name):
            continue
        groups = -(-options.queries * spec.share // (shares * GROUP))
        numbers = list(range(groups)) if options.group is None else [options.group]
        with tempfile.TemporaryDirectory() as folder:
            compared, different = visit(options, spec, numbers, Path(folder))
        totals += [(spec.name, kind, compared[kind], different[kind]) for kind in sorted(compared)]
    print("\n| table | level | metric | k | queries | different |\n| --- | --- | --- | --- | --- | --- |")
    for name, (level, metric, k), count, wrong in totals:
        print(f"| {name} | {level} | {metric} | {k} | {count} | {wrong} |")
    print(f"| all | | | | {sum(total[2] for total in totals)} | {sum(total[3] for total in totals)} |")
    return 1 if any(total[3] for total in totals) else 0


if __name__ == "__main__":
    sys.exit(main())
