"""Random stacks of layers: their rules are right, and the experiment finds, reduces and prints what is not."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from experiments import fuzz
from experiments.fuzz import Stack, judge
from experiments.stacks import draw_stack, smaller
from fnnet import Dense, MaxPool
from fnnet.backprop import RULES
from tests.runs import only_folder

DENSE = Stack(("LayerNorm()", "Dense(4)", "Activation(tanh)", "Residual(Dense(4))"), (2, 3, 4), train=True)


@pytest.mark.parametrize("tens", range(6))
def test_rules_of_random_stacks(tens: int) -> None:
    for number in range(10 * tens, 10 * tens + 10):
        stack = draw_stack(0, number)
        verdict = judge(stack)
        assert not verdict.is_find, fuzz.report(stack, verdict)


def test_stacks_depend_on_the_seed_alone() -> None:
    stacks = [draw_stack(seed, number) for seed in (3, 4) for number in range(5)]
    assert stacks == [draw_stack(seed, number) for seed in (3, 4) for number in range(5)]
    assert len(set(stacks)) == 10


def broken(kind: type, change: Any, patch: pytest.MonkeyPatch) -> None:
    rule = RULES[kind]
    patch.setitem(RULES, kind, rule._replace(backward=lambda *given: change(*rule.backward(*given))))


@pytest.mark.parametrize("how", ["jit", "scan", "grad"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_wrong_gradient_is_a_find(how: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(("Dense(3)",), (2, 3), dtype, how)
    assert judge(stack).kind == fuzz.EQUAL
    factor = 1 + 1e-9 if dtype == "float64" else 1.25
    broken(Dense, lambda dparams, dx: (dparams, dx * jnp.asarray(factor, dx.dtype)), monkeypatch)
    assert judge(stack).kind == "differs"


def test_a_find_is_reduced_and_can_be_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    broken(Dense, lambda dparams, dx: (dparams | {"w": 2 * dparams["w"]}, dx), monkeypatch)
    monkeypatch.setattr(fuzz, "draw_stack", lambda seed, number: DENSE)
    assert fuzz.run(fuzz.Config(count=1, runs=tmp_path)) == 1
    summary = (only_folder(tmp_path / "fuzz") / "summary.md").read_text()
    assert "print(judge(Stack(layers=('Dense(1)',), shape=(1, 1))))" in summary
    program = summary.split("```")[1]
    capsys.readouterr()
    exec(program[program.index("from experiments.fuzz") :], {})
    assert "kind='differs'" in capsys.readouterr().out


def test_dtypes_and_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(("Dense(3)",), (2, 3), "bfloat16")
    with monkeypatch.context() as patch:
        broken(Dense, lambda dparams, dx: (dparams, dx.astype("float32")), patch)
        assert judge(stack).kind == "shapes or dtypes"
    broken(Dense, lambda dparams, dx: ({"w": dparams["w"]}, dx), monkeypatch)
    assert judge(stack).kind == "shapes or dtypes"


def test_errors_name_the_layer_or_are_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(Stack(("Dense(0)",), (2, 3))).kind == fuzz.REFUSED
    assert judge(Stack(("MaxPool(3)",), (2, 2, 1))).kind == fuzz.REFUSED
    monkeypatch.setattr(MaxPool, "apply", lambda self, params, x, **options: x.reshape(7))
    assert judge(Stack(("MaxPool(3)",), (2, 2, 1))).kind == "an error that names no layer"
    monkeypatch.setitem(RULES, Dense, RULES[Dense]._replace(backward=lambda *given: 1 / 0))
    assert judge(Stack(("Dense(2)",), (2, 3))).kind == "raises"


EMPTY = [
    Stack(("Conv(1, 2)",), (0, 4, 3, 2), how="second"),
    Stack(("ConvTranspose(2, 2, groups=2)",), (0, 4, 3, 2), how="vmap"),
    Stack(("Activation(bind(maxout, axis=-1))",), (3, 0, 2), how="scan"),
]


@pytest.mark.parametrize("stack", EMPTY, ids=lambda stack: stack.layers[0])
def test_empty_batches_that_once_were_finds(stack: Stack) -> None:
    assert judge(stack) == fuzz.Verdict(fuzz.EQUAL)


def test_smaller_stacks_are_simpler() -> None:
    codes = {stack.layers for stack in smaller(Stack(("Residual(sequential(Dense(2), Dense(3)), Dense(3))",), (2, 1)))}
    assert ("Dense(2)",) in codes
    assert ("Residual(sequential(Dense(2)), Dense(3))",) in codes
    assert ("Residual(sequential(Dense(2), Dense(3)))",) in codes
    assert ("Residual(sequential(Dense(1), Dense(3)), Dense(3))",) in codes
