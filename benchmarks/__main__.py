"""`python -m benchmarks [NAME ...]` runs the benchmarks, all by default, and writes the results.

One thread: the variables must be set before NumPy and its friends are loaded, hence before the imports below.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import sys  # noqa: E402

from benchmarks import (  # noqa: E402
    bench_collector,
    bench_effect,
    bench_feast,
    bench_flow,
    bench_http,
    bench_ials,
    bench_interleaving,
    bench_large,
    bench_live,
    bench_nearest,
    bench_ope,
    bench_request,
    bench_simulator,
    bench_state,
    bench_trees,
)
from benchmarks.harness import Bench, main  # noqa: E402

BENCHES: dict[str, Bench] = {
    "trees": bench_trees.run,
    "nearest": bench_nearest.run,
    "ials": bench_ials.run,
    "simulator": bench_simulator.run,
    "flow": bench_flow.run,
    "feast": bench_feast.run,
    "request": bench_request.run,
    "http": bench_http.run,
    "state": bench_state.run,
    "collector": bench_collector.run,
    "effect": bench_effect.run,
    "large": bench_large.run,
    "live": bench_live.run,
    "ope": bench_ope.run,
    "interleaving": bench_interleaving.run,
}

if __name__ == "__main__":
    main(BENCHES, sys.argv[1:])
