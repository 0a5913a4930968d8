"""What depends on what is read from programs, those inside them included."""

from typing import Any

import jax
import jax.numpy as jnp

from fnnet.diagnosis.verdicts.structure import depending


def read(function: Any, *arguments: Any) -> list[bool]:
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    return depending(program, [True] * len(program.invars))


def test_a_carry_reaches_another_one_after_some_steps() -> None:
    def run(w: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            _, second, third, alone = carry
            return (second, third, third, alone * 2), None

        return jax.lax.scan(step, (0.0, 0.0, w, 1.0), None, length=5)[0]

    assert read(run, 1.0) == [True, True, True, False]


def test_programs_inside_programs_are_read_and_loops_depend_on_everything() -> None:
    inner = jax.jit(lambda a, b: (a * 2, jnp.ones(2)))
    assert read(lambda a: inner(a, a), 1.0) == [True, False]
    assert read(lambda a: (jnp.zeros(3), a), 1.0) == [False, True]
    assert read(lambda a: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1]), (0, a)), 1.0) == [True] * 2
