"""``python -m experiments.benchmarks`` lists the benchmarks; ``NAME --help`` shows the options of one."""

import sys

from experiments.cli import main

BENCHMARKS = {
    "conv": "experiments.benchmarks.conv",
    "mlp": "experiments.benchmarks.mlp",
    "cnn": "experiments.benchmarks.cnn",
    "optimizers": "experiments.benchmarks.optimizers",
    "agreement": "experiments.benchmarks.agreement",
    "pool": "experiments.benchmarks.pool",
    "recurrent": "experiments.benchmarks.recurrent",
    "curvature": "experiments.benchmarks.curvature",
    "training": "experiments.benchmarks.training",
    "sweep": "experiments.benchmarks.sweep",
    "watching": "experiments.benchmarks.watching",
}

if __name__ == "__main__":
    sys.exit(main("python -m experiments.benchmarks", BENCHMARKS))
