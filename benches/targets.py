"""Comparison of approximate search at equal recall, for compare.py --recall.

Queries are rows that are held out of the table (--held), or those of a file. The first half tunes the engines: each
gets the fastest search-time setting whose recall reaches the target. The second half is measured; its recall, which may
be above or below the target, stands beside the times. nseekfs is not tuned; it gets the target as its argument. Recall
is the mean over all queries of a half. By float64 scores, a row that is as good as the k-th counts as found.

Every engine is built once for each number of threads, one after the other, and stays in memory while others are
measured.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import approximate
import numpy as np
import workload
from rounds import Process, in_words, measure, print_header, print_table, quartiles, ratios, start

TARGETS = [0.9, 0.95, 0.99]
BLOCK = 200  # queries whose float64 scores are in memory at once


class Half(NamedTuple):
    """Half of the queries, and the float64 answers to them."""

    queries: Path
    answers: Path


class Files(NamedTuple):
    """The files that the processes share."""

    table: Path
    tuning: Half
    test: Half
    found: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("approximate search")
    group.add_argument(
        "--recall", nargs="*", type=float, metavar="TARGET", help="target recalls; without values, 0.9 0.95 0.99"
    )
    group.add_argument("--held", type=int, default=2000, help="number of rows held out as queries, without --queries")
    group.add_argument("--ann", choices=("ivf", "lsh", "auto"), default="ivf", help="kind of index of nseekfs")
    group.add_argument("--cells", type=int, default=1024, help="cells of faiss and rabitqlib, 2 to 4 times sqrt(rows)")
    group.add_argument("--leaves", type=int, default=1000, help="leaves of ScaNN")
    group.add_argument("--links", type=int, default=32, help="M of the graphs of faiss, hnswlib and usearch")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Print one table for each batch size, number of threads and target."""
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = prepare(args, Path(folder))
        options = {name: getattr(args, name) for name in ("ann", "cells", "leaves", "links")}
        for threads in dict.fromkeys(threads for _, threads in args.work):
            running = start(args, approximate.__file__, files.table, threads, options)
            print_builds(running, args.base)
            for batch in (batch for batch, wanted in args.work if wanted == threads):
                plans = tune(running, batch, files, args)
                for target in args.recall or TARGETS:
                    part = compare(running, plans[target], (batch, target), files, args)
                    print(f"recall {target:g}, {batch} a call, threads: {threads}\n")
                    print_table(table_of(part, args.base))
                    records += [{"threads": threads, **record} for record in part]
            for process in running.values():
                process.close()
    return records


def prepare(args: argparse.Namespace, folder: Path) -> Files:
    """Write the table, both halves of the queries, and their float64 answers."""
    source = workload.Source(args.data, args.queries, args.rows, args.dims, args.jitter, args.seed)
    given = 0 if args.queries is None else len(np.load(args.queries, mmap_mode="r"))
    table, queries = workload.make(source, given)
    held = args.held if args.queries is None else 0
    if held:
        table, queries = workload.hold_out(table, held, args.seed)
    middle = len(queries) // 2
    halves = {"tuning": queries[:middle], "test": queries[middle:]}
    kind = f"{workload.describe(source, held)}, {middle} queries to tune and {len(queries) - middle} to test"
    print_header(args, table, kind)
    np.save(folder / "table.npy", table)
    tuning, test = (answered(args, folder / name, table, part) for name, part in halves.items())
    return Files(folder / "table.npy", tuning, test, folder / "found.npy")


def answered(args: argparse.Namespace, path: Path, table: workload.Array, queries: workload.Array) -> Half:
    """Write queries and their float64 answers."""
    blocks = [queries[i : i + BLOCK] for i in range(0, len(queries), BLOCK)]
    found = [workload.reference(table, block, args.k, args.metric) for block in blocks]
    ids, scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
    half = Half(path.with_suffix(".npy"), path.with_suffix(".npz"))
    np.save(half.queries, queries)
    np.savez(half.answers, ids=ids, scores=scores)
    return half


def tune(
    running: dict[str, Process], batch: int, files: Files, args: argparse.Namespace
) -> dict[float, dict[str, dict[str, Any]]]:
    """The setting of every engine for every target."""
    targets = args.recall or TARGETS
    plans: dict[float, dict[str, dict[str, Any]]] = {target: {} for target in targets}
    queries, answers = map(str, files.tuning)
    for name, process in list(running.items()):
        try:
            told = process.request("tune", queries=queries, reference=answers, batch=batch, targets=targets)
        except ChildProcessError as error:
            if name == args.base:
                raise
            print(f"FAILED  {name}: {error}", flush=True)
            del running[name]
            continue
        for target, plan in zip(targets, told["plans"], strict=True):
            plans[target][name] = plan
    return plans


def compare(
    running: dict[str, Process],
    plans: dict[str, dict[str, Any]],
    work: tuple[int, float],
    files: Files,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Check and time every engine at one batch size and target; return one record for each engine."""
    batch, target = work
    with np.load(files.test.answers) as kept:
        reference = kept["ids"], kept["scores"]
    recalls = {}
    for name, process in running.items():
        setting, queries = plans[name]["setting"], str(files.test.queries)
        taken = process.request("take", setting=setting, queries=queries, batch=batch, seconds=args.seconds)
        process.request("answers", path=str(files.found), count=min(taken["checked"], len(reference[0])))
        recalls[name] = workload.check(np.load(files.found), *reference, args.k)["recall"]
    seconds = measure(running, plans, args)
    return [
        {
            "engine": name,
            **process.hello,
            "batch": batch,
            "target": target,
            **plans[name],
            "recall": recalls[name],
            "seconds": seconds[name],
            "ratios": ratios(seconds[name], seconds[args.base]),
        }
        for name, process in running.items()
    ]


def print_builds(running: dict[str, Process], base: str) -> None:
    rows = [["engine", "build s", f"build / {base}"]]
    for name, process in running.items():
        built = process.hello["build_seconds"]
        rows.append([name, f"{built:.2f}", f"{built / running[base].hello['build_seconds']:.2f}"])
    print()
    print_table(rows)


def table_of(records: list[dict[str, Any]], base: str) -> list[list[str]]:
    rows = [["engine", "queries a second", f"time / {base}", "recall", "when tuned", "setting"]]
    for record in records:
        speeds = quartiles(record["batch"] / np.array(record["seconds"]), 0)
        notes = [] if record["reached"] else ["(below the target)"]
        notes += ["(one call)"] if len(record["seconds"]) == 1 else []
        found = [f"{record['recall']:.4f}", f"{record['tuned_recall']:.4f}"]
        setting = " ".join([in_words(record["setting"]), *notes])
        rows.append([record["engine"], speeds, quartiles(record["ratios"], 3), *found, setting])
    return rows
