"""Measure memory use and import time: `python benches/memory.py [--wheel dist/X.whl]`.

Each number comes from a process of its own, which reads /proc, so this program needs Linux. It measures the peak memory
while an index is built from --megabytes of float32 rows, the memory that `load_index` adds, and the import time after
numpy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMON = """
import json, sys, time
def status(field):
    line = next(line for line in open('/proc/self/status') if line.startswith(field))
    return int(line.split()[1]) / 1024
"""

BUILD = """
import numpy as np, nseekfs
rows, folder, level = int(sys.argv[1]), sys.argv[2], sys.argv[3]
nseekfs.from_embeddings(np.ones((64, 384), np.float32)).query(np.ones(384, np.float32))
before = status('VmRSS')
x = np.random.default_rng(0).random((rows, 384), dtype=np.float32)
open('/proc/self/clear_refs', 'w').write('5')
start = time.perf_counter()
index = nseekfs.from_embeddings(x, level=level)
seconds = time.perf_counter() - start
peak = status('VmHWM') - before
index.save(folder + '/index.bin')
print(json.dumps({'peak': peak, 'input': x.nbytes / 2**20, 'seconds': seconds}))
"""

LOAD = """
import nseekfs
nseekfs.simd_info()
before = status('VmRSS')
start = time.perf_counter()
index = nseekfs.load_index(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps({'added': status('VmRSS') - before, 'seconds': seconds}))
"""

IMPORT = """
import numpy
start = time.perf_counter()
import nseekfs
print(json.dumps(time.perf_counter() - start))
"""


def child(code: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", COMMON + code, *arguments]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--levels", nargs="+", default=["f32"], choices=("f64", "f32", "f16", "f8"))
    parser.add_argument("--wheel", type=Path)
    args = parser.parse_args()
    rows = args.megabytes * 10**6 // (384 * 4)
    for level in args.levels:
        with tempfile.TemporaryDirectory() as folder:
            built = child(BUILD, str(rows), folder, level)
            file = Path(folder, "index.bin")
            size = file.stat().st_size / 2**20
            loaded = child(LOAD, str(file))
        bound = 1.25 * (built["input"] + size) + 64
        sizes = f"input {built['input']:.0f} MiB, index {size:.0f} MiB"
        print(f"{level}: {sizes}, built in {built['seconds']:.2f} s")
        print(f"{level}: peak of from_embeddings {built['peak']:.0f} MiB, bound {bound:.0f} MiB")
        print(f"{level}: load_index adds {loaded['added']:.2f} MiB in {loaded['seconds'] * 1e3:.2f} ms")
    times = sorted(float(child(IMPORT)) * 1e3 for _ in range(15))  # type: ignore[arg-type]
    print(f"import nseekfs after numpy: median {statistics.median(times):.1f} ms, most {times[-1]:.1f} ms")
    if args.wheel:
        print(f"{args.wheel.name}: {args.wheel.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
