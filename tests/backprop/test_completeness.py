"""Everything public has a case, a hand-written rule and a reference."""

import inspect
from types import ModuleType
from typing import Any

import pytest

from fnnet import activations, losses
from fnnet.backprop import RULES
from fnnet.backprop.activations import ACTIVATION_RULES
from fnnet.backprop.losses import FUSED_GRADIENTS, LOSS_GRADIENTS
from fnnet.backprop.penalties import PENALTY_GRADIENTS
from fnnet.binding import unbind
from fnnet.layers import Activation
from tests import reference
from tests.cases import ACTIVATIONS, LAYERS, LOSSES, OF_TOKENS, PENALTIES
from tests.public import public_activations, public_layers, public_losses, public_penalties

ACTIVATION_FUNCTIONS = {unbind(case.build().function)[0] for case in ACTIVATIONS}

KINDS = {
    "layers": (public_layers, {type(case.build()) for case in [*LAYERS, *OF_TOKENS]}, RULES, None),
    "activations": (public_activations, ACTIVATION_FUNCTIONS, ACTIVATION_RULES, reference.ACTIVATIONS),
    "losses": (public_losses, {unbind(case.loss)[0] for case in LOSSES}, LOSS_GRADIENTS, reference.LOSSES),
    "penalties": (public_penalties, {type(case.penalty) for case in PENALTIES}, PENALTY_GRADIENTS, reference.PENALTIES),
}


def lacking(kind: str) -> dict[str, set[Any]]:
    """Return the public things that each table lacks."""
    public, cases, rules, references = KINDS[kind]
    tables = {"case": cases, "rule": set(rules), "reference": public() if references is None else set(references)}
    return {name: public() - table for name, table in tables.items() if public() - table}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_public_has_a_case_a_rule_and_a_reference(kind: str) -> None:
    assert KINDS[kind][0](), "nothing public was found"
    assert lacking(kind) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_belongs_to_something_with_a_case(kind: str) -> None:
    _, cases, rules, _ = KINDS[kind]
    assert {key for key in rules if key.__module__.startswith("fnnet")} <= cases  # experiments have rules of their own


def test_every_fused_pair_is_that_of_a_loss_case() -> None:
    pairs = {(case.head, unbind(case.loss)[0]) for case in LOSSES}
    assert set(FUSED_GRADIENTS) <= pairs


@pytest.mark.parametrize("module", [losses.binary, losses.classes, losses.likelihood, losses.regression])
def test_every_loss_is_given_out(module: ModuleType) -> None:
    """A function ``(prediction, target) -> Array`` in a file of the package is in the package's ``__all__``."""
    written = {
        value
        for value in vars(module).values()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and [*inspect.signature(value).parameters][:2] == ["prediction", "target"]
        and value.__annotations__["return"] == "Array"
    }
    assert written
    assert written <= public_losses()


def test_what_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new function without a rule, or a rule that is taken away, is noticed."""

    def swish(z: Any) -> Any: ...
    def triplet(prediction: Any, target: Any, *, margin: float = 1.0) -> Any: ...

    for module, function in ((activations, swish), (losses, triplet)):
        monkeypatch.setattr(module, "__all__", [*module.__all__, function.__name__])
        monkeypatch.setattr(module, function.__name__, function, raising=False)
    assert lacking("activations") == {name: {swish} for name in ("case", "rule", "reference")}
    assert lacking("losses") == {name: {triplet} for name in ("case", "rule", "reference")}
    monkeypatch.delitem(RULES, Activation)
    assert lacking("layers") == {"rule": {Activation}}
