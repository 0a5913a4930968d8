"""Verdicts on a training run: what is wrong, the evidence, and a change that was tried.

A verdict is a tested hypothesis. ``preflight`` looks before training, ``Watch`` during it, ``diagnose`` after it, and
``remedies`` trains again from a state of the run with one thing changed. Each returns a ``Report``. The handbook of all
verdicts is the docstrings in ``fnnet.diagnosis.verdicts``.
"""

from fnnet.diagnosis.changes import Change, Setup
from fnnet.diagnosis.diagnose import diagnose, diagnose_sweep
from fnnet.diagnosis.preflight import preflight
from fnnet.diagnosis.remedies import remedies
from fnnet.diagnosis.report import CERTAINTIES, NotLookedAt, Outcome, Report, Verdict
from fnnet.diagnosis.thresholds import THRESHOLDS, Threshold
from fnnet.diagnosis.watch import Watch
from fnnet.diagnosis.watched import Watched

__all__ = [
    "CERTAINTIES",
    "THRESHOLDS",
    "Change",
    "NotLookedAt",
    "Outcome",
    "Report",
    "Setup",
    "Threshold",
    "Verdict",
    "Watch",
    "Watched",
    "diagnose",
    "diagnose_sweep",
    "preflight",
    "remedies",
]
