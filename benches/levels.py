"""Measure file size, build time and recall of each level: `python benches/levels.py FILE.npy ...`.

The rows of each file, multiplied by --scale in float32, are stored at every level. The size is that of the saved file,
with codes, divided by that of float32 rows. The recall is the share of the k best rows at f32 that a level also
returns. The queries are rows of the file (or of --queries), multiplied by the same scale.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Literal

import nseekfs
import numpy as np

LEVELS: tuple[Literal["f64", "f32", "f16", "f8"], ...] = ("f64", "f32", "f16", "f8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npy")
    parser.add_argument("--queries", type=Path, metavar="FILE.npy")
    parser.add_argument("--count", type=int, default=1000, help="maximum number of queries")
    parser.add_argument("--scale", type=float, default=0.3)
    parser.add_argument("--metric", choices=("cosine", "dot", "euclidean"), default="cosine")
    parser.add_argument("-k", type=int, default=10)
    args = parser.parse_args()
    print("| file | level | build s | file / float32 rows | recall |\n| --- | --- | --- | --- | --- |")
    for file in args.files:
        rows = np.load(file).astype(np.float32) * np.float32(args.scale)
        if args.queries:
            queries = np.load(args.queries)[: args.count].astype(np.float32) * np.float32(args.scale)
        else:
            queries = rows[np.random.default_rng(0).permutation(len(rows))[: args.count]]
        answers, sizes, seconds = {}, {}, {}
        for level in LEVELS:
            start = time.perf_counter()
            index = nseekfs.from_embeddings(rows, metric=args.metric, level=level)
            seconds[level] = time.perf_counter() - start
            answers[level] = index.search(queries, k=args.k).indices
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "index.bin")
                index.save(path)
                sizes[level] = os.path.getsize(path)
        for level in LEVELS:
            same = [np.isin(*pair).sum() for pair in zip(answers[level], answers["f32"], strict=True)]
            recall = sum(same) / answers["f32"].size
            size = sizes[level] / rows.nbytes
            print(f"| {file.name} | {level} | {seconds[level]:.2f} | {size:.4f} | {recall:.5f} |", flush=True)


if __name__ == "__main__":
    main()
