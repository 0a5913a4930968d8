"""Training: a pure step, a pure epoch, and the loop on the host around them."""

from fnnet.training.epoch import train_epoch
from fnnet.training.evaluate import evaluate
from fnnet.training.fit import FitResult, fit
from fnnet.training.metrics import accuracy
from fnnet.training.state import TrainState
from fnnet.training.step import train_step
from fnnet.training.sweep import SweepResult, grid, sweep

__all__ = [
    "FitResult",
    "SweepResult",
    "TrainState",
    "accuracy",
    "evaluate",
    "fit",
    "grid",
    "sweep",
    "train_epoch",
    "train_step",
]
