"""Compare k-means with faiss and scikit-learn, in one run on one machine: `python benches/clusters.py`.

Every round trains every engine once, in a process of its own, with the same rows, clusters, iterations and threads. The
result is the median of the ratios of all rounds, time of the peer / time of nseekfs, with quartiles. Beside it stands
the objective of the centroids, computed by numpy in float64 over all rows, because a ratio of times means little if the
clusters are worse. `--peer-python` names an interpreter with the peers installed; a peer that cannot be imported is
reported as absent. Lloyd's algorithm starts at random rows in both libraries.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import workload
from rounds import interpreter, quartiles

BLOCK = 8192  # rows whose distances to all centroids are in memory at once


def nseekfs_lloyd(rows: workload.Array, args: argparse.Namespace) -> workload.Array:
    from nseekfs.cluster import KMeans

    options = {"init": "random", "max_iter": args.iterations, "tol": 0, "seed": args.seed, "threads": args.threads}
    return KMeans(args.cells, **options).fit(rows).centroids


def nseekfs_batches(rows: workload.Array, args: argparse.Namespace) -> workload.Array:
    from nseekfs.cluster import MiniBatchKMeans

    return MiniBatchKMeans(args.cells, args.batch or None, seed=args.seed, threads=args.threads).fit(rows).centroids


def faiss_lloyd(rows: workload.Array, args: argparse.Namespace) -> workload.Array:
    import faiss

    faiss.omp_set_num_threads(args.threads)
    options = {"niter": args.iterations, "seed": args.seed + 1, "max_points_per_centroid": len(rows)}
    found = faiss.Kmeans(rows.shape[1], args.cells, **options)
    found.train(rows)
    return found.centroids


def sklearn_batches(rows: workload.Array, args: argparse.Namespace) -> workload.Array:
    from sklearn.cluster import MiniBatchKMeans

    found = MiniBatchKMeans(args.cells, batch_size=args.batch or 1024, random_state=args.seed, n_init=1)
    return found.fit(rows).cluster_centers_


ENGINES: dict[str, tuple[str, Callable[..., workload.Array]]] = {
    "nseekfs KMeans": ("nseekfs", nseekfs_lloyd),
    "faiss.Kmeans": ("faiss", faiss_lloyd),
    "nseekfs MiniBatchKMeans": ("nseekfs", nseekfs_batches),
    "sklearn MiniBatchKMeans": ("sklearn", sklearn_batches),
}
PAIRS = [
    ("nseekfs KMeans", "faiss.Kmeans"),
    ("nseekfs KMeans", "sklearn MiniBatchKMeans"),
    ("nseekfs MiniBatchKMeans", "sklearn MiniBatchKMeans"),
]
"""An engine of nseekfs, and the peer that it is compared with."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", nargs="+", default=[workload.GAUSSIAN], metavar="FILE", help="gaussian, or .npy files"
    )
    parser.add_argument("--rows", type=int, default=150_000, help="number of rows; 0: all rows of the files of --data")
    parser.add_argument("--dims", type=int, default=384, help="dims of gaussian rows")
    parser.add_argument("--cells", type=int, default=1024, help="number of clusters")
    parser.add_argument("--iterations", type=int, default=20, help="iterations of Lloyd's algorithm")
    parser.add_argument("--batch", type=int, default=0, help="rows of a mini-batch; 0: the choice of each library")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    peer_python = os.environ.get("PEER_PYTHON") or sys.executable
    parser.add_argument("--peer-python", type=interpreter, default=peer_python, help="which has the peers installed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jitter", type=float, default=0.03, help=argparse.SUPPRESS)
    parser.add_argument("--train", metavar="ENGINE", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def train(args: argparse.Namespace) -> None:
    """Train once in this process; print the seconds, and write the centroids to a file."""
    rows = np.load(args.folder / "rows.npy")
    module, engine = ENGINES[args.train]
    try:
        __import__(module)
    except ImportError as error:
        print(json.dumps({"error": str(error)}))
        return
    start = time.perf_counter()
    centroids = engine(rows, args)
    seconds = time.perf_counter() - start
    np.save(args.folder / "centroids.npy", np.asarray(centroids, np.float32))
    print(json.dumps({"seconds": seconds}))


def ask(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    python = sys.executable if ENGINES[name][0] == "nseekfs" else args.peer_python
    numbers = {key: getattr(args, key) for key in ("cells", "iterations", "batch", "threads", "seed")}
    command = [python, __file__, "--train", name, "--folder", str(folder)]
    command += [part for key, value in numbers.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, **{variable: str(args.threads) for variable in names}}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    lines = done.stdout.splitlines()
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": f"exit status {done.returncode}"}
    return answer


def objective(rows: workload.Array, centroids: workload.Array) -> float:
    """The sum of squared distances to the nearest centroids: found by float32 products, summed in float64."""
    halves = (centroids.astype(np.float64) ** 2).sum(axis=1) / 2
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        nearest = (part @ centroids.T - halves.astype(np.float32)).argmax(axis=1)
        total += float(((part.astype(np.float64) - centroids[nearest]) ** 2).sum())
    return total


def main() -> None:
    args = parse()
    if args.train:
        train(args)
        return
    source = workload.Source(args.data, None, args.rows, args.dims, args.jitter, args.seed)
    rows, _ = workload.make(source, 1)
    print(workload.machine())
    print(
        f"{rows.shape[0]} x {rows.shape[1]} float32, {args.cells} clusters, {args.iterations} iterations of Lloyd, "
        f"mini-batches: {args.batch or 'as each library chooses'}, threads: {args.threads}, {args.rounds} rounds\n"
    )
    seconds: dict[str, list[float]] = {name: [] for name in args.engines}
    objectives: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "rows.npy", rows)
        for turn in range(args.rounds):
            names = list(seconds)
            for engine in names[turn % len(names) :] + names[: turn % len(names)]:
                answer = ask(engine, folder, args)
                if "error" in answer:
                    print(f"ABSENT  {engine}: {answer['error']}", flush=True)
                    del seconds[engine]
                    continue
                seconds[engine].append(answer["seconds"])
                objectives.setdefault(engine, objective(rows, np.load(folder / "centroids.npy")))
    print("| engine | seconds | objective |\n| --- | --- | --- |")
    for engine, times in seconds.items():
        print(f"| {engine} | {quartiles(times, 2)} | {objectives[engine]:.1f} |")
    print("\n| | time / nseekfs | objective / nseekfs |\n| --- | --- | --- |")
    for ours, peer in PAIRS:
        if ours in seconds and peer in seconds:
            ratios = quartiles(np.array(seconds[peer]) / np.array(seconds[ours]), 2)
            print(f"| {peer} / {ours} | {ratios} | {objectives[peer] / objectives[ours]:.4f} |")


if __name__ == "__main__":
    main()
