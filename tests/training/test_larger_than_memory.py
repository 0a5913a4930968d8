"""A set on disk that is four times as large as the memory that the process may have."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")

PROGRAM = """
import resource, sys
import jax, numpy as np
import fnnet

def memory() -> int:  # private, writable memory of this process, in bytes: what RLIMIT_DATA limits
    status = open("/proc/self/status").read()
    return int(status.split("VmData:")[1].split()[0]) * 1024

cost = fnnet.Cost(fnnet.Dense(2), fnnet.losses.squared_error)
width = 1024
small = np.ones((256, width), np.float32), np.ones((256, 2), np.float32)
params = {"w": np.zeros((width, 2), np.float32), "b": np.zeros(2, np.float32)}
options = {"key": jax.random.key(0), "epochs": 1}
fnnet.fit(cost, fnnet.optimizers.sgd(0.0), params, fnnet.data.from_arrays(*small, 64), **options)  # starts all threads

allowed = memory() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
rows = 4 * allowed // (4 * width)
x = np.memmap(sys.argv[1], np.float32, "w+", shape=(rows, width))  # nothing but a hole in the disk, as yet
marks = np.arange(0, rows, rows // 50)
x[marks, 0] = 1 + np.arange(len(marks))
x.flush()
x = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, width))
y = np.broadcast_to(np.float32(0), (rows, 2))
assert x.nbytes >= 4 * allowed - 4 * width
try:
    np.array(x)
    raise SystemExit("the limit does not limit")
except MemoryError:
    pass

params["w"][0] = 1
stream = fnnet.data.from_arrays(x, y, 1024, shuffle=False, chunk_bytes=1)
history = fnnet.fit(cost, fnnet.optimizers.sgd(0.0), params, stream, **options).history
print(history["cost"][0] * rows, float((x[marks, 0].astype(float) ** 2).sum()), allowed / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA limits mapped memory on Linux only")
def test_trains_on_a_set_four_times_larger_than_its_memory(tmp_path: Path) -> None:
    """The mean of ``ŷ_k²`` over two outputs that both pass on the first entry is its square: every mark was seen."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "x")], capture_output=True, text=True, check=False, timeout=100
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found, expected, _ = map(float, run.stdout.split())
    assert found == pytest.approx(expected, rel=1e-4)
