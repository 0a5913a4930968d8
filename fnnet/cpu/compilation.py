"""Programs that run once compile quickly.

Compiling takes most of the time of a program that runs once on a few hundred examples. Without the optimizations of
LLVM, and with the older generator of loops, pre-flight's three programs for a 784-128-10 network compile in 1.3 s
instead of 4.8 s and run as fast: their time goes into products of matrices, which are library calls. Measured with jax
0.10.2 on two cores of a virtual machine; jax 0.11 has no older generator. Try without from 0.12 on.
"""

from __future__ import annotations

import jax

# Options of jax.jit(..., compiler_options=QUICK).
QUICK: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    QUICK["xla_cpu_use_fusion_emitters"] = False
