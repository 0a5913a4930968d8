"""Runs that are saved to a directory, and the steps that it has."""

from pathlib import Path
from typing import Any

from fnnet import Checkpoint, FitResult, fit
from fnnet.optimizers import adam
from fnnet.training.callbacks import EarlyStopping
from tests.cases import random_params
from tests.training.problems import DATA, NETWORK, X, key

OPTIONS = {"batch_size": 4, "validation": DATA}


def train(directory: Path | Checkpoint | None, epochs: int, **options: Any) -> FitResult:
    arguments = {"cost": NETWORK, "optimizer": adam(0.003), "params": random_params(NETWORK.model, X), "key": key()}
    arguments |= {"data": DATA, "epochs": epochs, "checkpoint": directory, "callbacks": [EarlyStopping(9)]}
    return fit(**arguments | OPTIONS | options)


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())
