"""Check hand-written gradients in random stacks of layers: are they those of autodiff, whatever is combined?

Each stack is drawn from the seed: its layers and their options, shapes, dtype, masks and the transformation (jit, vmap,
scan, the gradient of the layers as custom derivatives, and the gradient of the gradient). Either the hand-written rules
give what autodiff gives, with the shapes and dtypes of what they belong to, or the layer refuses its input with an
error that names it. Anything else is a find: it is reduced to the smallest stack that still shows it, and printed with
the code that reproduces it. The exit status is 1 if there is a find.
"""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

import fnnet
from experiments.results import Results, console
from experiments.stacks import NAMES, TOKENS, Stack, build, draw_stack, smaller
from fnnet import backprop
from fnnet.backprop.check.compare import as_float64, deviation, largest, ulps
from fnnet.configuration import brief
from fnnet.layers import Sequential
from fnnet.types import Layer

TOLERANCE = 1e-10  # float64: of the largest entry of the tensor
ULPS = 16.0  # float32 and bfloat16: units in the last place of the largest entry of the tensor
# The error may also be a multiple of what a change of the inputs in their last digits does, most of all where the right
# gradient is 0.
NUDGES, TIMES_NUDGED = 2, {"float64": 100.0, "float32": 4.0, "bfloat16": 4.0}
TIMES_AUTODIFF = 4.0  # in low precision: of autodiff's own error
CANDIDATES = 300  # smaller stacks that are tried
EQUAL, REFUSED = "equal", "refused"
PLAIN = NAMES | {"as_custom_vjp": lambda layer: layer}  # for autodiff, which would run the rule


@dataclass(frozen=True)
class Config:
    seed: int = 0
    """Seed of all stacks; the same seed gives the same stacks."""
    count: int = 500
    """Number of stacks."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Verdict(NamedTuple):
    """What came of a stack: "equal" and "refused" are right, and every other kind is a find."""

    kind: str
    note: str = ""

    @property
    def is_find(self) -> bool:
        return self.kind not in (EQUAL, REFUSED)


def run(config: Config) -> int:
    results = Results("fuzz", config, config.runs)
    kinds: Counter[str] = Counter()
    finds = []
    for number in track(range(config.count), "differentiating random stacks", console=console, transient=True):
        stack = draw_stack(config.seed, number)
        verdict = judge(stack)
        kinds[verdict.kind] += 1
        results.record(number=number, stack=repr(stack), verdict=verdict.kind, note=verdict.note)
        if verdict.is_find:
            finds.append(report(*shrunk(stack, verdict)))
            console.print(f"stack {number}: {finds[-1]}", markup=False, highlight=False, soft_wrap=True)
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    summary = f"{config.count} random stacks of seed {config.seed}: {counts}"
    console.print(summary, style="bold red" if finds else "bold green", highlight=False)
    results.summary("\n\n".join([summary, *(f"```\n{find}\n```" for find in finds)]))
    return 1 if finds else 0


def report(stack: Stack, verdict: Verdict) -> str:
    """Return the find and the code that reproduces it."""
    code = f"from experiments.fuzz import Stack, judge\n\nprint(judge({brief(stack)}))"
    return f"{verdict.kind}: {verdict.note}\n\n{code}\n"


def shrunk(stack: Stack, verdict: Verdict) -> tuple[Stack, Verdict]:
    """Return the smallest stack found with a verdict of the same kind, by taking away as long as it stays."""
    tried: set[Stack] = set()
    while True:
        for candidate in smaller(stack):
            if candidate in tried or len(tried) >= CANDIDATES:
                continue
            tried.add(candidate)
            found = judge(candidate)
            if found.kind == verdict.kind:
                stack, verdict = candidate, found
                break
        else:
            return stack, verdict


def judge(stack: Stack) -> Verdict:
    """Return whether the rules of this stack give what autodiff gives."""
    with jax.enable_x64(stack.dtype == "float64"), jax.default_matmul_precision("highest"):
        try:
            subject = Subject(stack)
        except Exception as error:
            return of_error(error)
        try:
            traced = jax.jit(subject.both).trace(*subject.point)
            if traced.out_info[0] != traced.out_info[1]:
                return Verdict("shapes or dtypes", first_difference(*traced.out_info))
            return compared(subject, traced.lower().compile())
        except Exception as error:
            return Verdict("raises", described(error))


def of_error(error: Exception) -> Verdict:
    """Return "refused" for an error of fnnet that begins with the name of what refuses; every other one is a find."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = Path(frames[-1].filename).is_relative_to(Path(fnnet.__file__).parent)
    name = re.match(r"\w*", str(error))
    named = name is not None and hasattr(fnnet, name.group())
    right = ours and named and isinstance(error, ValueError | TypeError)
    return Verdict(REFUSED if right else "an error that names no layer", described(error))


def described(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]} ({Path(frame.filename).name}:{frame.lineno})"


def first_difference(found: Any, expected: Any) -> str:
    structures: list[Any] = [jax.tree.structure(found), jax.tree.structure(expected)]
    if structures[0] != structures[1]:
        return f"the rules give {structures[0]}, expected {structures[1]}"
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        if a != b:
            return f"{jax.tree_util.keystr(path)} by hand is {a}, expected {b}"
    return "none"


class Point(NamedTuple):
    """Random numbers at which a stack is differentiated; ``dy`` and ``dcarries`` belong to its outputs.

    ``weights`` is like ``(params, x, carries)``. A carry is None where a link has no mask. For two networks every
    array has a first axis of length 2.
    """

    params: Any
    x: Any
    carries: Any
    dy: Any
    dcarries: Any
    weights: Any


class Subject:
    """The functions of a stack, and the point. Layers without a mask are one ``Sequential``; else each is a link."""

    def __init__(self, stack: Stack, plain: Mapping[str, Any] = PLAIN) -> None:
        self.stack = stack
        self.links, self.plain = linked(stack, NAMES), linked(stack, plain)
        rng = np.random.default_rng(stack.seed)
        self.shapes, self.masks, carries = [], [], []
        x = jax.ShapeDtypeStruct(stack.shape, jnp.int32 if stack.of_tokens else stack.dtype)
        first = x
        for link in self.links:
            params = jax.eval_shape(link.init, jax.random.key(0), x)
            mask = rng.random(x.shape[:2]) < 0.7 if stack.masked and takes_mask(link) else None
            carry = None if mask is None or not hasattr(link, "scan") else carry_of(link, params, x)
            self.shapes.append(params)
            self.masks.append(mask)
            carries.append(carry)
            x = jax.eval_shape(partial(apply, link, self.options(0), mask=mask), params, x, carry)[0]
        self.point = self.draw(rng, Point(self.shapes, first, carries, x, carries, (self.shapes, first, carries)))

    def draw(self, rng: np.random.Generator, shapes: Point) -> Point:
        two = () if self.stack.how not in ("vmap", "scan") else (2,)

        def numbers(like: Any) -> Any:
            if not jnp.issubdtype(like.dtype, jnp.floating):
                return rng.integers(0, TOKENS, (*two, *like.shape)).astype(np.int32)
            if self.stack.ties:
                return (rng.integers(-2, 3, (*two, *like.shape)) / 2).astype(like.dtype)
            fan_in = max(1, int(np.prod(like.shape[:-1]))) if len(like.shape) > 1 else 1
            scale = 1 if like is shapes.x or like is shapes.dy else fan_in**-0.5
            return (scale * rng.standard_normal((*two, *like.shape))).astype(like.dtype)

        point = jax.tree.map(numbers, shapes)
        if self.masks[0] is not None:  # steps that do not exist may hold anything
            point = point._replace(x=np.where(self.masks[0][..., None], point.x, np.asarray(np.nan, point.x.dtype)))
        return point

    def options(self, link: int) -> dict[str, Any]:
        key = jax.random.fold_in(jax.random.key(self.stack.seed), link)
        return {"key": key if self.stack.train else None, "train": self.stack.train}

    def forward(self, links: Any, params: Any, x: Any, carries: Any) -> Any:
        after = []
        for i, link in enumerate(links):
            x, carry = apply(link, self.options(i), params[i], x, carries[i], mask=self.masks[i])
            after.append(carry)
        return x, after

    def gradient_by_autodiff(self, point: Point) -> Any:
        y, pullback = jax.vjp(partial(self.forward, self.plain), point.params, point.x, point.carries)
        return y, pullback((point.dy, point.dcarries))

    def gradient_of_custom(self, point: Point) -> Any:
        links = [
            backprop.as_custom_vjp(link) if mask is None else link
            for link, mask in zip(self.links, self.masks, strict=True)
        ]
        y, pullback = jax.vjp(partial(self.forward, links), point.params, point.x, point.carries)
        return y, pullback((point.dy, point.dcarries))

    def gradient_by_hand(self, point: Point) -> Any:
        x, after, pullbacks = point.x, [], []
        for i, link in enumerate(self.links):
            (x, carry), pullback = vjp(link, self.options(i), point.params[i], x, point.carries[i], self.masks[i])
            after.append(carry)
            pullbacks.append(pullback)
        dy, dparams, dcarries = point.dy, [], []
        for pullback, dafter in zip(reversed(pullbacks), reversed(point.dcarries), strict=True):
            dp, dy, dcarry = pullback(dy, dafter)
            dparams.append(dp)
            dcarries.append(dcarry)
        return (x, after), (dparams[::-1], dy, dcarries[::-1])

    def both(self, *point: Any) -> Any:
        """Return the derivatives by hand and by autodiff."""
        by_hand = self.gradient_of_custom if self.stack.how == "grad" else self.gradient_by_hand
        return tuple(self.transformed(gradient, Point(*point)) for gradient in (by_hand, self.gradient_by_autodiff))

    def transformed(self, gradient: Any, point: Point) -> Any:
        if self.stack.how == "vmap":
            return jax.vmap(gradient)(point)
        if self.stack.how == "scan":
            return jax.lax.map(gradient, point)
        return second(gradient, point) if self.stack.how == "second" else gradient(point)


def linked(stack: Stack, names: Any) -> list[Layer]:
    layers = [build(code, names) for code in stack.layers]
    return layers if stack.masked else [Sequential(tuple(layers))]


def takes_mask(link: Layer) -> bool:
    return hasattr(link, "scan") or hasattr(link, "attend")


def carry_of(link: Any, params: Any, x: Any) -> Any:
    return jax.eval_shape(lambda params, x: link.scan(params, x)[1], params, x)


def apply(link: Any, options: Any, params: Any, x: Any, carry: Any, *, mask: Any) -> Any:
    """Return ``(y, carry)`` of a link; there is no carry without a mask."""
    if mask is None:
        return link.apply(params, x, **options), None
    return link.scan(params, x, carry, mask) if hasattr(link, "scan") else (link.attend(params, x, mask), None)


def vjp(link: Any, options: Any, params: Any, x: Any, carry: Any, mask: Any) -> Any:
    """Return ``((y, carry), pullback)`` of a link, by its rule."""
    if mask is not None and hasattr(link, "scan"):
        return backprop.scan_vjp(link, params, x, carry, mask)
    y, back = backprop.vjp(link, params, x, **options) if mask is None else backprop.attend_vjp(link, params, x, mask)
    return (y, None), lambda dy, _: (*back(dy), None)


def second(gradient: Any, point: Point) -> Any:
    """Return the gradient of the weighted sum of a gradient."""

    def total(params: Any, x: Any, carries: Any) -> Any:
        _, found = gradient(point._replace(params=params, x=x, carries=carries))
        floating = [
            (w, g)
            for w, g in zip(jax.tree.leaves(point.weights), jax.tree.leaves(found), strict=True)
            if g.dtype != jax.dtypes.float0
        ]
        return sum(jnp.vdot(w, g) for w, g in floating) if floating else jnp.zeros(())

    return jax.value_and_grad(total, (0, 1, 2), allow_int=True)(point.params, point.x, point.carries)


def compared(subject: Subject, program: Any) -> Verdict:
    """Return the verdict of the numbers."""
    hand, reference = map(tensors, program(*subject.point))
    dtype = subject.stack.precision
    error = {name: deviation(hand[name], a).max(initial=0) for name, a in reference.items()}
    notes = [f"{name} is not finite by autodiff" for name, a in reference.items() if not np.isfinite(a).all()]
    suspects = [name for name, a in reference.items() if not error[name] <= limit(a, dtype)]
    if suspects and not notes:
        moved = change(subject, program)
        suspects = [name for name in suspects if not error[name] <= TIMES_NUDGED[dtype] * moved[name]]
    if suspects and not notes and dtype != "float64":
        exact = tensors(in_float64(subject))
        own, by_hand = (
            {n: deviation(side[n], exact[n]).max(initial=0) for n in suspects} for side in (reference, hand)
        )
        suspects = [n for n in suspects if not by_hand[n] <= TIMES_AUTODIFF * own[n] + limit(exact[n], dtype)]
    notes += [
        f"{name} differs by {error[name]:.3g}, its largest entry is {largest(reference[name]):.3g}" for name in suspects
    ]
    return Verdict("differs", "; ".join(notes)) if notes else Verdict(EQUAL)


def change(subject: Subject, program: Any) -> dict[str, float]:
    """Return how much autodiff's derivatives change when the point changes in its last digits."""
    rng = np.random.default_rng(subject.stack.seed)
    points = [subject.point, *(nudge(subject.point, rng, subject.stack) for _ in range(NUDGES))]
    right, *others = (tensors(program(*point)[1]) for point in points)
    return {name: max(deviation(other[name], a).max(initial=0) for other in others) for name, a in right.items()}


def limit(a: Any, dtype: str) -> float:
    """Return the error that a gradient may have whose right value is ``a``."""
    scale = largest(a)
    return TOLERANCE * scale if dtype == "float64" else ULPS * scale / max(ulps(scale, a, dtype), 1.0)


def in_float64(subject: Subject) -> Any:
    """Return the derivatives by autodiff in float64 at the same point, of layers without low precision."""
    with jax.enable_x64(True):
        wide = Subject(replace(subject.stack, dtype="float64"), PLAIN | {"LowPrecision": lambda layer, dtype="": layer})
        point = jax.tree.map(lambda v: v if v.dtype == np.int32 else as_float64(v), subject.point)
        return jax.jit(lambda *point: wide.transformed(wide.gradient_by_autodiff, Point(*point)))(*point)


def tensors(tree: Any) -> dict[str, Any]:
    """Return the floating-point leaves in float64, by their names."""
    return {
        jax.tree_util.keystr(path): as_float64(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if leaf.dtype != jax.dtypes.float0
    }


def nudge(point: Point, rng: np.random.Generator, stack: Stack) -> Point:
    """Return the point with last digits changed, those of ``dy`` alone where numbers are tied."""
    eps = float(jnp.finfo(stack.precision).eps)

    def moved(v: Any) -> Any:
        if not jnp.issubdtype(v.dtype, jnp.floating):
            return v
        return (as_float64(v) * (1 + eps * rng.integers(-1, 2, v.shape))).astype(v.dtype)

    if stack.ties:
        return point._replace(dy=moved(point.dy), dcarries=jax.tree.map(moved, point.dcarries))
    return jax.tree.map(moved, point)
