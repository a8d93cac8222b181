"""Count the answers of nseekfs that differ from the float64 reference, for every combination of options.

    python benches/exactness.py --data rows.npy --queries 100

The combinations are: every kernel that the CPU can run (each in a process of its own), every level, metric and method,
1 and 2 threads, single queries and one batch. Row numbers, order, bits of scores and bits of keys are compared with
`tests/python/reference.py`. The exit status is 1 if anything differs. benches/campaign.py compares more queries in
fewer combinations.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import nseekfs
import numpy as np
from tables import RULES

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "python"))
import reference

METRICS = ("cosine", "dot", "euclidean")


def table(name: str, rows: int, dims: int, random: np.random.Generator) -> np.ndarray:
    """The rows of a .npy file, or generated rows, as float32."""
    x = RULES[name](random, rows, dims) if name in RULES else np.load(name)[:rows]
    return x.astype(np.float32)


def same(found: tuple, expected: tuple) -> np.ndarray:
    """A bool for each query: whether its rows, scores and keys are the expected bits."""
    ids, scores, keys = found
    if any(part.shape != wanted.shape for part, wanted in zip(found, expected, strict=True)):
        return np.zeros(len(expected[0]), bool)
    equal = (ids == expected[0]).all(axis=1)
    equal &= (scores.view(np.uint32) == expected[1].view(np.uint32)).all(axis=1)
    return equal & (keys.view(np.uint64) == expected[2].view(np.uint64)).all(axis=1)


def compare(options: argparse.Namespace) -> dict[str, int]:
    """The number of queries compared, and of those that differ, with the kernel of this process."""
    random = np.random.default_rng(options.seed)
    compared = different = 0
    for name in options.data:
        x = table(name, options.rows, options.dims, random)
        near = x[random.integers(0, len(x), options.queries)]
        queries = near + random.standard_normal(near.shape).astype(np.float32) * np.abs(near).mean() * 0.3
        queries[::4] = near[::4]
        for level in ("f64", "f32", "f16", "f8"):
            index = nseekfs.from_embeddings(x, level=level)
            rows = reference.stored(x, level)
            for metric in METRICS:
                expected = reference.top(queries, rows, options.k, metric)
                for method in ("auto", "simd", "scalar"):
                    for threads in (1, 2):
                        how = {"similarity": metric, "method": method, "threads": threads}
                        batch = reference.parts(index.search(queries, options.k, **how))
                        singles = [reference.parts(index.search(query[None], options.k, **how)) for query in queries]
                        single = tuple(np.concatenate(parts) for parts in zip(*singles))
                        for found in (batch, single):
                            compared += len(queries)
                            different += int((~same(found, expected)).sum())
    return {"compared": compared, "different": different}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", nargs="+", default=list(RULES), help=f".npy files, or generated tables: {', '.join(RULES)}"
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dims", type=int, default=96)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--this-kernel", action="store_true", help="compare with the kernel of this process only, and print JSON"
    )
    options = parser.parse_args()
    if options.this_kernel:
        print(json.dumps(compare(options)))
        return 0
    total = 0
    for kernel in nseekfs.simd_info()["available"]:
        command = [sys.executable, __file__, *sys.argv[1:], "--this-kernel"]
        done = subprocess.run(command, env={**os.environ, "NSEEKFS_KERNEL": kernel}, stdout=subprocess.PIPE, check=True)
        counts = json.loads(done.stdout)
        print(f"{kernel:9} {counts['compared']:9} queries compared, {counts['different']} different", flush=True)
        total += counts["different"]
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
