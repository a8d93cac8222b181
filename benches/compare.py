"""nseekfs beside its peers, in one run on one machine: `python benches/compare.py`.

Every round asks every engine once, in an order that turns by one place a round; what is reported is the
median of the per-round ratios (time of the peer / time of nseekfs, above 1 means that nseekfs is faster),
with quartiles. Answers are checked against float64 before anything is timed; peers that search quantised rows
are approximate, and their recall stands beside their time. Engines run in processes of their own (peers.py says
why); `--peer-python` names an interpreter that has the peers installed. A peer that cannot be imported is
reported as absent. All engines hold their rows at once; where memory is short, `--engines` names fewer.

The machine should be idle: matrix products that wait for each other's threads suffer most from company. The
load that the header prints is that of the minute before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peers
import workload

OURS = "nseekfs"
SETTLE = 0.02  # seconds between two engines, so that the threads of the one stop spinning


class Files(NamedTuple):
    """What the processes share, and the float64 answers to the first queries."""

    table: Path
    queries: Path
    found: Path
    reference: tuple[workload.Array, workload.Array]


class Process:
    """An engine in its process."""

    def __init__(self, python: str, name: str, table: Path, metric: str, k: int, threads: int) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
        command = [
            python,
            str(Path(peers.__file__).resolve()),
            name,
            str(table),
            metric,
            str(k),
            str(threads),
        ]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=table.parent,
            env={**os.environ, **{variable: str(threads) for variable in names}},
        )
        self.hello = self.read()

    def read(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"exit status {self.child.wait()}"}
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.child.stdin.flush()
        return self.read()

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="0: as many as the files of --data have")
    parser.add_argument("--dims", type=int, default=384, help="of gaussian rows; a file has its own")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[workload.GAUSSIAN],
        metavar="FILE",
        help="gaussian, or .npy files, taken together; repeated up to --rows, every copy but the first with noise",
    )
    parser.add_argument(
        "--jitter",
        type=float,
        default=0.03,
        help="standard deviation of that noise in each value of rows of length 1, which get length 1 again: "
        "0.03 at 384 dimensions is noise of length 0.59",
    )
    parser.add_argument(
        "--queries",
        metavar="FILE",
        help="a .npy file of queries, shuffled and repeated as needed; without it they are rows of the files with "
        "the same noise, or gaussian",
    )
    parser.add_argument("--metric", choices=("dot", "cosine"), default="dot", help="asked of nseekfs; peers take dot")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument(
        "--work",
        nargs="+",
        default=["1:1", "16:2", "128:2", "1000:2"],
        metavar="BATCH:THREADS",
        help="what to measure",
    )
    parser.add_argument("--rounds", type=int, default=11, help="9 or more, for quartiles that mean something")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one measurement, in whole calls")
    parser.add_argument("--patience", type=float, default=30, help="a peer with slower calls is measured once")
    parser.add_argument("--check", type=int, default=100, help="queries checked against float64")
    parser.add_argument("--engines", nargs="+", choices=list(peers.ENGINES), default=list(peers.ENGINES))
    parser.add_argument("--peer-python", default=os.environ.get("PEER_PYTHON", sys.executable))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write every measurement here")
    args = parser.parse_args()
    if args.rows == 0 and args.data == [workload.GAUSSIAN]:
        parser.error("--rows 0 needs files: --data FILE.npy")
    args.engines = [OURS, *(name for name in args.engines if name != OURS)]
    args.work = [tuple(map(int, work.split(":"))) for work in args.work]
    return args


def start(args: argparse.Namespace, table: Path, threads: int) -> dict[str, Process]:
    """The engines that answer; the others are named and left out."""
    running = {}
    for name in args.engines:
        python = sys.executable if name == OURS else args.peer_python
        process = Process(python, name, table, args.metric, args.k, threads)
        if "error" in process.hello:
            print(f"ABSENT  {name}: {process.hello['error']}", flush=True)
            process.close()
            continue
        print(f"{name}: {process.hello['version']}; built in {process.hello['build_seconds']:.2f} s", flush=True)
        running[name] = process
    if OURS not in running:
        sys.exit("nseekfs itself cannot be imported: make build")
    return running


def measure(running: dict[str, Process], plans: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a call, one value a round; engines beyond patience keep the one value of their warm-up."""
    names = [name for name in running if name == OURS or plans[name]["seconds"] <= args.patience]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(args.rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(SETTLE)
            seconds[name].append(running[name].ask("measure")["seconds"])
    return {name: seconds.get(name, [plans[name]["seconds"]]) for name in running}


def compare(running: dict[str, Process], batch: int, files: Files, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tune, check and time every engine at one batch size: one record an engine."""
    plans, checks = {}, {}
    for name, process in running.items():
        plans[name] = process.ask("prepare", queries=str(files.queries), batch=batch, seconds=args.seconds)
        process.ask("answers", path=str(files.found), count=args.check)
        checks[name] = workload.check(np.load(files.found), *files.reference, args.k)
    seconds = measure(running, plans, args)
    ours = np.array(seconds[OURS])
    return [
        {
            "engine": name,
            "version": process.hello["version"],
            "batch": batch,
            "setting": plans[name]["setting"],
            "seconds": seconds[name],
            # A peer that was measured once has no rounds to pair.
            "ratios": (seconds[name] / (ours if len(seconds[name]) == len(ours) else np.median(ours))).tolist(),
            **checks[name],
        }
        for name, process in running.items()
    ]


def quartiles(values: Any, digits: int) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def print_table(records: list[dict[str, Any]]) -> None:
    rows = [["engine", "ms a call", "time / nseekfs", "recall", "other order", "setting"]]
    for record in records:
        milliseconds = np.array(record["seconds"]) * 1e3
        setting = " ".join(f"{key}={value}" for key, value in record["setting"].items())
        once = " (one call)" if len(milliseconds) == 1 else ""
        order = f"{record['other_order']} of {record['checked']}"
        times = [quartiles(milliseconds, 2), quartiles(record["ratios"], 2)]
        rows.append([record["engine"], *times, f"{record['recall']:.4f}", order, setting + once])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print(flush=True)


def describe(source: workload.Source) -> str:
    """The data in a few words, files by their names."""
    words = [" + ".join(Path(path).name for path in source.data)]
    if source.data != [workload.GAUSSIAN] and (source.rows or source.queries is None):
        words.append(f"jitter {source.jitter:g}")
    if source.queries is not None:
        words.append(f"queries {Path(source.queries).name}")
    return ", ".join(words)


def main() -> None:
    args = parse()
    most = max(batch for batch, _ in args.work)
    source = workload.Source(args.data, args.queries, args.rows, args.dims, args.jitter, args.seed)
    table, queries = workload.make(source, max(most, args.check))
    print(workload.machine())
    print(
        f"{table.shape[0]} x {table.shape[1]} float32 ({table.nbytes / 1e6:.0f} MB), {describe(source)}, "
        f"seed {args.seed}, k={args.k}, {args.metric}, {args.rounds} rounds\n"
    )
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        best = workload.reference(table, queries[: args.check], args.k, args.metric)
        files = Files(Path(folder, "table.npy"), Path(folder, "queries.npy"), Path(folder, "found.npy"), best)
        np.save(files.table, table)
        np.save(files.queries, queries)
        del table
        for threads in dict.fromkeys(threads for _, threads in args.work):
            running = start(args, files.table, threads)
            for batch in (batch for batch, wanted in args.work if wanted == threads):
                part = compare(running, batch, files, args)
                print(f"\n{batch} {'query' if batch == 1 else 'queries'} a call, threads: {threads}\n")
                print_table(part)
                records += [{"threads": threads, **record} for record in part]
            for process in running.values():
                process.close()
    if args.json:
        run = {"machine": workload.machine(), **{key: str(value) for key, value in vars(args).items()}}
        args.json.write_text(json.dumps({"run": run, "measurements": records}, indent=1) + "\n")
    if any(record["other_order"] for record in records if record["engine"] == OURS):
        sys.exit("nseekfs differs from the float64 reference")


if __name__ == "__main__":
    main()
