"""Parameters that lie on several devices."""

import subprocess
import sys
from pathlib import Path

from tests.haste import environment


def test_four_devices_give_the_same_numbers_and_the_shardings_stay() -> None:
    """It runs in its own process, because the number of devices is fixed when jax starts."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.optimizers.sharded"],
        cwd=Path(__file__).parents[2],
        env=environment(4),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
