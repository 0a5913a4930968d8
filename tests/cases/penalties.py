"""Penalties."""

from dataclasses import dataclass

from fnnet import penalties
from fnnet.types import Penalty


@dataclass(frozen=True)
class PenaltyCase:
    name: str
    penalty: Penalty

    def __str__(self) -> str:
        return self.name


PENALTIES = [
    PenaltyCase("l1", penalties.l1(0.3)),
    PenaltyCase("l2", penalties.l2(0.7)),
    PenaltyCase("elastic_net", penalties.elastic_net(0.3, 0.7)),
    PenaltyCase("l1 of all", penalties.l1(0.3, where=bool)),
    PenaltyCase("l2 of one layer", penalties.l2(0.7, where="1.w".__eq__)),
]
