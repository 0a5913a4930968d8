"""Deliberate faults in hand-written derivatives that gradient checkers must find; ``MUTANTS`` lists them."""

from experiments.mutations import activations, attention, batches, costs, images, layers, losses, recurrence
from experiments.mutations.checkers import CHECKERS
from experiments.mutations.mutant import Mutant, Point, Subject

MUTANTS: tuple[Mutant, ...] = (
    *layers.MUTANTS,
    *images.MUTANTS,
    *recurrence.MUTANTS,
    *attention.MUTANTS,
    *activations.MUTANTS,
    *losses.MUTANTS,
    *costs.MUTANTS,
    *batches.MUTANTS,
)

__all__ = ["CHECKERS", "MUTANTS", "Mutant", "Point", "Subject"]
