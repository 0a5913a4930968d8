"""Penalties and their gradients at 50 digits, written from the docstrings of ``fnnet.penalties``."""

from __future__ import annotations

from experiments.truth.exact import Matrix, Row, Truth, mp


def elastic_net(l1: str, l2: str) -> Truth:
    """``l1 Σ |w| + l2 / 2 Σ w²``, of which the lasso and the ridge are the halves."""
    lasso, ridge = mp.mpf(l1), mp.mpf(l2)

    def penalty(w: Row) -> tuple[Row, Matrix]:
        value = lasso * mp.fsum(abs(a) for a in w) + ridge / 2 * mp.fsum(a * a for a in w)
        return [value], [[lasso * mp.sign(a) + ridge * a for a in w]]

    return penalty
