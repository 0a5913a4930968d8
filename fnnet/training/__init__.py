"""Training: a pure step, a pure chunk of steps, and the loop on the host around them."""

from fnnet.training import callbacks
from fnnet.training.checkpoint import Checkpoint, CheckpointError, go_back
from fnnet.training.chunk import train_chunk, train_epoch
from fnnet.training.evaluate import evaluate
from fnnet.training.fit import FitInterrupted, FitResult, fit
from fnnet.training.non_finite import NonFinite
from fnnet.training.record import read_record
from fnnet.training.state import TrainState, averaged_params
from fnnet.training.step import train_step
from fnnet.training.sweep import SweepResult, grid, sweep
from fnnet.training.weights import load_weights, save_weights

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FitInterrupted",
    "FitResult",
    "NonFinite",
    "SweepResult",
    "TrainState",
    "averaged_params",
    "callbacks",
    "evaluate",
    "fit",
    "go_back",
    "grid",
    "load_weights",
    "read_record",
    "save_weights",
    "sweep",
    "train_chunk",
    "train_epoch",
    "train_step",
]
