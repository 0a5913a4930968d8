"""Training: a pure step, a pure epoch, and the loop on the host around them."""

from fnnet.training import metrics
from fnnet.training.average import averaged_params
from fnnet.training.checkpoint import Checkpoint, CheckpointError, go_back
from fnnet.training.epoch import train_epoch
from fnnet.training.evaluate import evaluate
from fnnet.training.fit import FitResult, fit
from fnnet.training.metrics import accuracy
from fnnet.training.non_finite import NonFinite
from fnnet.training.record import read_record
from fnnet.training.state import TrainState
from fnnet.training.step import train_step
from fnnet.training.streamed_evaluation import evaluate_stream
from fnnet.training.sweep import SweepResult, grid, sweep
from fnnet.training.weights import load_weights, save_weights

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FitResult",
    "NonFinite",
    "SweepResult",
    "TrainState",
    "accuracy",
    "averaged_params",
    "evaluate",
    "evaluate_stream",
    "fit",
    "go_back",
    "grid",
    "load_weights",
    "metrics",
    "read_record",
    "save_weights",
    "sweep",
    "train_epoch",
    "train_step",
]
