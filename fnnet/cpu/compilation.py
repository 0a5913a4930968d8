"""Programs that run once compile quickly.

Compiling takes most of the time of a program that runs once on a few hundred examples. Without the optimizations of
LLVM, and with the older generator of loops, pre-flight's three programs for a 784-128-10 network compile in 1.3 s
instead of 4.8 s and run as fast: their time goes into products of matrices, which are library calls. Measured with jax
0.10.2 on 2 cores of an Intel Xeon at 2.5 GHz, Cascade Lake, AVX-512. There is no figure of a second processor.

jax 0.11 has no older generator. Try without from 0.12 on.
"""

from __future__ import annotations

import jax


def quick_options() -> dict[str, bool | int]:
    """Return the ``compiler_options`` of ``jax.jit`` for such a program, none on other platforms than CPU."""
    if jax.default_backend() != "cpu":
        return {}
    older: dict[str, bool | int] = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
    return older | {"xla_backend_optimization_level": 0}
