"""Describe what a timing depends on besides the code: the machine and the versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path


def describe(packages: Iterable[str]) -> dict[str, str]:
    """Return the machine, JAX's device, and the versions of Python, fnnet and the given distributions, by name."""
    load = f"{os.getloadavg()[0]:.2f}"  # mean number of runnable programs in the last minute
    # JAX starts in a process of its own, so that this one holds no threads and no memory of an accelerator.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        ours = pool.submit(jax_and_fnnet).result()
    machine = {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "load": load,
        "python": platform.python_version(),
    }
    return machine | ours | {package: installed_version(package) for package in packages}


def jax_and_fnnet() -> dict[str, str]:
    import jax

    import fnnet

    device = jax.devices()[0]
    return {"device": f"{device.platform} ({device.device_kind})", "fnnet": fnnet.__version__}


def processor() -> str:
    """Return the processor's model, from Linux or, on other systems, from Python."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
