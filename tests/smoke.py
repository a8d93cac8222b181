"""Test of the installed wheel, run by `make smoke` in an environment that has the wheel and no Rust."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nseekfs
import numpy as np


def main() -> None:
    assert Path(nseekfs.__file__).is_relative_to(sys.prefix), nseekfs.__file__
    assert not shutil.which("cargo"), "this test needs a PATH without Rust"
    rows = np.random.default_rng(0).standard_normal((1000, 48), dtype=np.float32)
    scores = rows[:5].astype(np.float64) @ rows.astype(np.float64).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    with tempfile.TemporaryDirectory() as folder:
        path = nseekfs.create_index(rows, folder, metric="dot")
        with nseekfs.load_index(path, verify="full") as index:
            assert np.array_equal(index.search(rows[:5], k=7).indices, best)
            assert [hit["idx"] for hit in index.query(rows[0], top_k=7)] == best[0].tolist()
        for verb in ("info", "verify"):
            subprocess.run([sys.executable, "-m", "nseekfs", verb, str(path)], check=True)
    print(f"{nseekfs.__file__} works: {nseekfs.simd_info()}")


if __name__ == "__main__":
    main()
