"""Deliberate faults of training runs, healthy runs and runs from public questions; ``FAULTS`` lists the faults.

A run is a ``fnnet.diagnosis.Setup``, and a fault is a function from a healthy one to a faulty one.
"""

from experiments.faults import examples, outputs, starts, steps
from experiments.faults.bases import BASES, Base
from experiments.faults.fault import VERDICTS, Fault

FAULTS: tuple[Fault, ...] = (*outputs.FAULTS, *starts.FAULTS, *examples.FAULTS, *steps.FAULTS)

__all__ = ["BASES", "FAULTS", "VERDICTS", "Base", "Fault"]
