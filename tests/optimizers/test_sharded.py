"""Parameters that lie on several devices."""

import os
import subprocess
import sys
from pathlib import Path


def test_four_devices_give_the_same_numbers_and_keep_their_parts() -> None:
    """In a process of its own: the number of devices is settled before jax starts."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.optimizers.sharded"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
