"""Penalties and their gradients at 50 digits, written from the docstrings of ``fnnet.penalties``."""

from __future__ import annotations

from experiments.truth.exact import Entries, Row, Truth, mp


def elastic_net(l1: str, l2: str) -> Truth:
    """Return ``l1 Σ |w| + l2 / 2 Σ w²``; with one of the two at 0 it is the ridge or the lasso."""
    lasso, ridge = mp.mpf(l1), mp.mpf(l2)

    def penalty(w: Row) -> tuple[Entries, list[Entries]]:
        value = lasso * mp.fsum(abs(a) for a in w) + ridge / 2 * mp.fsum(a * a for a in w)
        return [value], [[lasso * mp.sign(a) + ridge * a for a in w]]

    return penalty
