"""A run that several tests go on from."""

import shutil
from pathlib import Path

import pytest

from tests.training.saving import train


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs of three updates each, of which the last three are kept; not to be written to."""
    directory = tmp_path_factory.mktemp("run")
    train(directory, 4)
    return directory


@pytest.fixture
def copied_run(saved_run: Path, tmp_path: Path) -> Path:
    """The same in a directory of the test's own."""
    return Path(shutil.copytree(saved_run, tmp_path / "run"))
