"""Compare the speed of nseekfs with that of other libraries, in one run on one machine: `python benches/compare.py`.

Every round times every engine once, in an order that rotates by one from round to round. The result is the median of
the ratios of all rounds, time of the peer / time of nseekfs, with quartiles; above 1 means that nseekfs is faster.
Answers are checked against float64 before any time is measured. Peers that search quantised rows are approximate, and
their recall stands beside their time. Engines run in processes of their own, for reasons that peers.py gives;
`--peer-python` names an interpreter with the peers installed. A peer that cannot be imported is reported as absent. All
engines hold their rows in memory at the same time; `--engines` selects fewer.

With --recall, the program compares approximate search: every engine is tuned on separate queries to its fastest setting
that reaches a target recall. targets.py describes how.

The machine should be idle, above all for matrix products, whose threads wait for each other. The header prints the load
of the last minute.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import approximate
import numpy as np
import peers
import targets
import workload
from rounds import OURS, Process, in_words, interpreter, measure, print_header, print_table, quartiles, ratios, start


class Files(NamedTuple):
    """The files that the processes share, and the float64 answers to the first queries."""

    table: Path
    queries: Path
    found: Path
    reference: tuple[workload.Array, workload.Array]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="number of rows; 0: all rows of the files of --data")
    parser.add_argument("--dims", type=int, default=384, help="dims of gaussian rows")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[workload.GAUSSIAN],
        metavar="FILE",
        help="gaussian, or .npy files, concatenated and repeated up to --rows; every copy but the first gets noise",
    )
    parser.add_argument(
        "--jitter",
        type=float,
        default=0.03,
        help="standard deviation of the noise in each value of rows of length 1, which are scaled to length 1 again; "
        "0.03 at 384 dims is noise of length 0.59",
    )
    parser.add_argument(
        "--queries",
        metavar="FILE",
        help="a .npy file of queries, shuffled and repeated as needed; default: rows of the files with the same noise, "
        "or gaussian queries",
    )
    parser.add_argument("--metric", choices=("dot", "cosine"), default="dot", help="metric of nseekfs; peers use dot")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument(
        "--work",
        nargs="+",
        metavar="BATCH:THREADS",
        help="default: 1:1 16:2 128:2 1000:2, or with --recall 1:1 1000:1 1000:2",
    )
    parser.add_argument("--rounds", type=int, default=11, help="number of rounds; quartiles need 9 or more")
    parser.add_argument("--seconds", type=float, default=0.3, help="duration of one measurement, in whole calls")
    parser.add_argument("--patience", type=float, default=30, help="seconds; a peer with slower calls is measured once")
    parser.add_argument("--check", type=int, default=100, help="number of queries checked against float64")
    known = dict.fromkeys([*peers.ENGINES, *approximate.ENGINES])
    parser.add_argument("--engines", nargs="+", choices=list(known), help="default: all")
    parser.add_argument(
        "--base", choices=list(known), default=OURS, help="the engine whose time is the divisor of the ratios"
    )
    peer_python = os.environ.get("PEER_PYTHON") or sys.executable
    parser.add_argument("--peer-python", type=interpreter, default=peer_python, help="interpreter with the peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    targets.add_options(parser)
    return complete(parser, parser.parse_args())


def complete(parser: argparse.ArgumentParser, args: argparse.Namespace) -> argparse.Namespace:
    """Refuse options that contradict each other, and set the defaults of the kind of comparison."""
    offered = list(peers.ENGINES if args.recall is None else approximate.ENGINES)
    usual = ["1:1", "16:2", "128:2", "1000:2"] if args.recall is None else ["1:1", "1000:1", "1000:2"]
    if args.rows == 0 and args.data == [workload.GAUSSIAN]:
        parser.error("--rows 0: expected files, --data FILE.npy")
    if not all(0 < target <= 1 for target in args.recall or []):
        parser.error("--recall: expected numbers above 0, at most 1")
    if args.recall is not None and args.held < 2:
        parser.error("--held: expected 2 or more, to tune and to test")
    args.engines = [args.base, *(name for name in args.engines or offered if name != args.base)]
    if strange := [name for name in args.engines if name not in offered]:
        parser.error(f"--engines: expected some of {', '.join(offered)}, got {', '.join(strange)}")
    args.work = [tuple(map(int, work.split(":"))) for work in args.work or usual]
    return args


def compare(running: dict[str, Process], batch: int, files: Files, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tune, check and time every engine at one batch size; return one record for each engine."""
    plans, checks = {}, {}
    for name, process in running.items():
        plans[name] = process.request("prepare", queries=str(files.queries), batch=batch, seconds=args.seconds)
        process.request("answers", path=str(files.found), count=args.check)
        checks[name] = workload.check(np.load(files.found), *files.reference, args.k)
    seconds = measure(running, plans, args)
    return [
        {
            "engine": name,
            "version": process.hello["version"],
            "batch": batch,
            "setting": plans[name]["setting"],
            "seconds": seconds[name],
            "ratios": ratios(seconds[name], seconds[args.base]),
            **checks[name],
        }
        for name, process in running.items()
    ]


def table_of(records: list[dict[str, Any]], base: str) -> list[list[str]]:
    rows = [["engine", "ms a call", f"time / {base}", "recall", "other order", "setting"]]
    for record in records:
        milliseconds = np.array(record["seconds"]) * 1e3
        once = " (one call)" if len(milliseconds) == 1 else ""
        order = f"{record['other_order']} of {record['checked']}"
        times = [quartiles(milliseconds, 2), quartiles(record["ratios"], 2)]
        setting = in_words(record["setting"]) + once
        rows.append([record["engine"], *times, f"{record['recall']:.4f}", order, setting])
    return rows


def exact(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare exact search; print one table for each batch size and number of threads."""
    most = max(batch for batch, _ in args.work)
    source = workload.Source(args.data, args.queries, args.rows, args.dims, args.jitter, args.seed)
    table, queries = workload.make(source, max(most, args.check))
    print_header(args, table, workload.describe(source))
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        best = workload.reference(table, queries[: args.check], args.k, args.metric)
        files = Files(Path(folder, "table.npy"), Path(folder, "queries.npy"), Path(folder, "found.npy"), best)
        np.save(files.table, table)
        np.save(files.queries, queries)
        del table
        for threads in dict.fromkeys(threads for _, threads in args.work):
            running = start(args, peers.__file__, files.table, threads, {})
            for batch in (batch for batch, wanted in args.work if wanted == threads):
                part = compare(running, batch, files, args)
                print(f"\n{batch} {'query' if batch == 1 else 'queries'} a call, threads: {threads}\n")
                print_table(table_of(part, args.base))
                records += [{"threads": threads, **record} for record in part]
            for process in running.values():
                process.close()
    return records


def main() -> None:
    args = parse()
    print(workload.machine())
    records = exact(args) if args.recall is None else targets.run(args)
    if args.json:
        run = {"machine": workload.machine(), **{key: str(value) for key, value in vars(args).items()}}
        args.json.write_text(json.dumps({"run": run, "measurements": records}, indent=1) + "\n")
    if args.recall is None and any(record["other_order"] for record in records if record["engine"] == OURS):
        sys.exit("nseekfs differs from the float64 reference")


if __name__ == "__main__":
    main()
