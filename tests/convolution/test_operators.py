"""The three operations equal XLA's convolution and its derivatives, also under the transformations of JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet.convolution import convolution, convolve, input_gradient, kernel_gradient
from fnnet.convolution.geometry import geometry_of
from fnnet.cpu import patches, taps
from tests.compare import assert_close
from tests.convolution.configurations import Configuration, lax_convolution, random_configurations

pytestmark = pytest.mark.usefixtures("x64")
RANDOM = list(random_configurations(208))
SMALL_BLOCKS = 600  # bytes: some of the random configurations take one block, others several


def by_lax(configuration: Configuration, x: Any, w: Any, dy: Any) -> Any:
    y, pullback = jax.vjp(lambda x, w: lax_convolution(x, w, configuration.geometry), x, w)
    return y, *pullback(dy)


def by_taps(configuration: Configuration, x: Any, w: Any, dy: Any) -> Any:
    g = configuration.geometry
    if not g.groups == configuration.channels == configuration.filters:
        return None
    return taps.convolution(x, w, g), taps.input_gradient(dy, w, g), taps.kernel_gradient(x, dy, g)


def by_fnnet(configuration: Configuration, x: Any, w: Any, dy: Any, method: Any) -> Any:
    y, pullback = jax.vjp(lambda x, w: convolution(x, w, configuration.geometry, method), x, w)
    return y, *pullback(dy)


@pytest.mark.parametrize("part", range(8))
def test_equal_to_lax_and_its_vjp(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """26 random configurations run in one program, because compiling takes nearly all the time.

    XLA's own convolution needs the comparison less: every fourth configuration has it.
    """
    for module in (patches, taps):
        monkeypatch.setattr(module, "BLOCK_BYTES", SMALL_BLOCKS)
    some = RANDOM[part::8]

    @jax.jit
    def run(operands: Any) -> Any:
        return [
            (
                by_lax(c, *o),
                by_fnnet(c, *o, "patches"),
                by_fnnet(c, *o, "xla") if number % 4 == 0 else None,
                by_taps(c, *o),
            )
            for number, (c, o) in enumerate(zip(some, operands, strict=True))
        ]

    for expected, *others in run([c.operands() for c in some]):
        for other in filter(None, others):
            assert_close(other, expected)


def test_the_random_configurations_cover_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "BLOCK_BYTES", SMALL_BLOCKS)
    shapes = [(c, c.geometry) for c in RANDOM]
    assert len(RANDOM) >= 200
    for kind in (
        [g.rank == 1 for _, g in shapes],
        [g.rank == 2 for _, g in shapes],
        [max(g.stride) > 1 for _, g in shapes],
        [max(g.dilation) > 1 and g.taps > 1 for _, g in shapes],
        [max(max(pair) for pair in g.padding) > 0 for _, g in shapes],
        [g.groups > 1 and c.channels > g.groups for c, g in shapes],
        [g.groups > 1 and c.channels == g.groups for c, g in shapes],
        [g.taps > 1 and max(g.output) == 1 for _, g in shapes],
        [g.taps == 1 for _, g in shapes],
        [c.channels == 1 for c, _ in shapes],
        [c.examples == 1 for c, _ in shapes],
        [1 < block_size(c) < c.examples for c, _ in shapes],
        [1 == block_size(c) < c.examples for c, _ in shapes],
        [1 < block_size(c) == c.examples for c, _ in shapes],
    ):
        assert sum(kind) >= 10


def block_size(c: Configuration) -> int:
    return patches.block_size(c.geometry, (c.examples, *c.geometry.image, c.channels), itemsize=8)


GEOMETRY = geometry_of("", (5, 4), (3, 2), stride=(2, 1), padding=((1, 0), (0, 1)), groups=2)
EXAMPLE = Configuration(2, 4, 6, GEOMETRY)
every_method = pytest.mark.parametrize("method", ["patches", "xla"])


@every_method
@pytest.mark.parametrize(
    ("operation", "which"), [(convolution, (0, 1)), (input_gradient, (2, 1)), (kernel_gradient, (0, 2))]
)
def test_vmap(operation: Any, which: Any, method: Any) -> None:
    """A batch of the first, the second or both operands, along any axis, equals the results one by one."""
    both = [jnp.stack([a, jnp.cos(a), -a]) for a in (EXAMPLE.operands()[i] for i in which)]

    @jax.jit
    def run(first: Any, second: Any) -> Any:
        def f(a: Any, b: Any) -> Any:
            return operation(a, b, GEOMETRY, method)

        last = jax.vmap(f, (-1, 1), 2)(jnp.moveaxis(first, 0, -1), jnp.moveaxis(second, 0, 1))
        together = (
            jax.vmap(f)(first, second),
            jax.vmap(f, (0, None))(first, second[0]),
            jax.vmap(f, (None, 0))(first[0], second),
        )
        alone = [jnp.stack([f(first[i * s], second[i * t]) for i in range(3)]) for s, t in ((1, 1), (1, 0), (0, 1))]
        return (*together, jnp.moveaxis(last, 2, 0)), (*alone, alone[0])

    assert_close(*run(*both))


@every_method
def test_derivatives_of_derivatives(method: Any) -> None:
    """Forward over reverse, reverse over reverse and reverse over forward equal those of XLA's convolution."""

    def cost(conv: Any) -> Any:
        return lambda x, w: jnp.sin(conv(x, w)).sum()

    def ours(x: Any, w: Any) -> Any:
        return convolution(x, w, GEOMETRY, method)

    x, w, _ = EXAMPLE.operands()
    f, reference = cost(ours), cost(lambda x, w: lax_convolution(x, w, GEOMETRY))
    direction = (jnp.cos(x), jnp.sin(w))

    def product(f: Any) -> Any:
        return jax.jvp(jax.grad(f, (0, 1)), (x, w), direction)[1]

    def reverse_twice(f: Any) -> Any:
        grad = jax.grad(f, (0, 1))
        return jax.grad(lambda *p: jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, grad(*p), direction)), (0, 1))(x, w)

    def reverse_of_forward(f: Any) -> Any:
        return jax.grad(lambda *p: jax.jvp(f, p, direction)[1], (0, 1))(x, w)

    expected = jax.jit(lambda: product(reference))()
    assert_close(jax.jit(lambda: (product(f), reverse_twice(f), reverse_of_forward(f)))(), (expected,) * 3)
    assert_close(
        jax.jvp(ours, (x, w), direction), jax.jvp(lambda x, w: lax_convolution(x, w, GEOMETRY), (x, w), direction)
    )


@every_method
def test_scan_and_checkpoint(method: Any) -> None:
    """The gradient of a recurrence through a convolution equals that of the unrolled loop."""

    def after(x: Any, w: Any) -> Any:
        def step(h: Any, _: Any) -> Any:
            return jnp.tanh(convolve(h, w, padding="SAME", method=method)), None

        return jax.lax.scan(jax.checkpoint(step), x, length=3)[0].sum()

    def unrolled(x: Any, w: Any) -> Any:
        geometry = geometry_of("", x.shape[1:-1], w.shape[:-2], padding="SAME")
        for _ in range(3):
            x = jnp.tanh(lax_convolution(x, w, geometry))
        return x.sum()

    x, w = jnp.cos(jnp.arange(24.0)).reshape(1, 3, 4, 2), jnp.sin(jnp.arange(24.0)).reshape(3, 2, 2, 2)
    assert_close(*(jax.jit(jax.grad(f, (0, 1)))(x, w) for f in (after, unrolled)))


def test_shard_map() -> None:
    """With the batch split over devices and one kernel on all, the gradient of the kernel is summed."""
    x, w, _ = EXAMPLE.operands()
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, every = jax.sharding.PartitionSpec("batch"), jax.sharding.PartitionSpec()

    def local(x: Any, w: Any) -> Any:
        return jax.lax.psum(jnp.sin(convolution(x, w, GEOMETRY)).sum(), "batch")

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(rows, every), out_specs=every)
    gradients = jax.jit(jax.grad(sharded, (0, 1)))(x, w)
    assert_close(gradients, jax.grad(lambda x, w: jnp.sin(lax_convolution(x, w, GEOMETRY)).sum(), (0, 1))(x, w))


def test_bfloat16_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a kernel is a sum over blocks, which would differ if it were rounded to bfloat16 after each."""
    x, dy = jnp.ones((63, 13, 13, 1), jnp.bfloat16), jnp.ones((63, 9, 9, 1), jnp.bfloat16)
    geometry = geometry_of("", (13, 13), (5, 5))
    monkeypatch.setattr(patches, "BLOCK_BYTES", 2**16)
    blocks = 63 // patches.block_size(geometry, x.shape, itemsize=2)
    rounded = jnp.zeros((), jnp.bfloat16)
    for _ in range(blocks):
        rounded += jnp.asarray(63 * 81 / blocks, jnp.bfloat16)
    expected = jnp.asarray(63 * 81, jnp.bfloat16)
    assert rounded != expected
    for method in ("patches", "xla"):
        dw = kernel_gradient(x, dy, geometry, method)
        assert dw.dtype == jnp.bfloat16
        np.testing.assert_array_equal(dw, jnp.full((5, 5, 1, 1), expected))


def test_patches_of_all_examples_never_exist_together() -> None:
    """The compiled gradient has memory for blocks of patches, not for the matrix of all of them."""
    geometry = geometry_of("", (16, 16), (3, 3), padding="SAME")
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 16, 16, 16), (3, 3, 16, 16), (64, 16, 16, 16))]
    of_all = 64 * 16 * 16 * 9 * 16 * 4
    images = 2 * 64 * 16 * 16 * 16 * 4

    def gradients(x: Any, w: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(lambda x, w: convolution(x, w, geometry, "patches"), x, w)
        return y, *pullback(dy)

    memory = jax.jit(gradients).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < min(of_all / 2, 3 * images)


def test_auto_chooses_while_lowering_and_method_overrides_it() -> None:
    """The lowered program has a product of matrices for patches, and a convolution for XLA's."""
    shape = (128, 32, 32, 32)
    big = geometry_of("", shape[1:3], (3, 3))
    assert patches.is_faster("convolution", shape, (3, 3, 32, 64), big)
    assert not patches.is_faster("convolution", (1, *shape[1:]), (3, 3, 32, 64), big)
    x, w = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((3, 3, 32, 64), jnp.float32)
    for method, platform, is_convolution in (
        ("auto", "cpu", False),
        ("xla", "cpu", True),
        ("auto", "cuda", True),
        ("auto", "tpu", True),
        ("patches", "cuda", False),
    ):
        traced = jax.jit(lambda x, w: convolution(x, w, big, method)).trace(x, w)  # noqa: B023
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) is is_convolution
        assert ("stablehlo.dot_general" in text) is not is_convolution


def test_kernel_gradient_of_xla_has_the_axes_in_order_on_cpu() -> None:
    """Images come as (C, L, N) and kernels as (P, N, O), the order that XLA's CPU backend computes by a library."""
    geometry = geometry_of("", (6, 6), (3, 3))
    x, dy = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32), jax.ShapeDtypeStruct((2, 4, 4, 5), jnp.float32)
    text = jax.jit(lambda x, dy: kernel_gradient(x, dy, geometry, "xla")).lower(x, dy).as_text()
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in text


REFUSED = [
    (
        lambda: convolve(jnp.ones((1, 3, 3, 2)), jnp.ones((4, 4, 2, 1))),
        ValueError,
        r"convolve: the kernel \(4, 4\) is larger than the padded image \(3, 3\) .*; the output would be empty",
    ),
    (
        lambda: convolve(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)), dilation=2),
        ValueError,
        r"the kernel \(3, 3\) with dilation \(2, 2\) covers \(5, 5\), which is larger",
    ),
    (lambda: convolve(jnp.ones((4, 4, 2)), jnp.ones((3, 3, 2, 1))), ValueError, "the same number of spatial axes"),
    (
        lambda: convolve(jnp.ones((4, 2)), jnp.ones((2, 1))),
        ValueError,
        "the same number of spatial axes, and at least one",
    ),
    (lambda: convolve(jnp.ones((1, 4, 3)), jnp.ones((3, 2, 1))), ValueError, "expected 2 channels on the last axis"),
    (
        lambda: convolve(jnp.ones((1, 4, 3)), jnp.ones((3, 1, 2)), groups=2),
        ValueError,
        "groups is 2 but x has 3 channels",
    ),
    (
        lambda: convolve(jnp.ones((1, 4, 4)), jnp.ones((3, 2, 3)), groups=2),
        ValueError,
        "groups is 2 but w has 3 filters",
    ),
    (lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1)), stride=0), ValueError, "stride is 0"),
    (lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1)), stride=(1, 1)), ValueError, "stride is .*2 entries"),
    (lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1)), padding="same"), ValueError, "padding is 'same'"),
    (lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1)), padding=-1), ValueError, "padding is -1"),
    (lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1)), padding=(1, 2)), ValueError, r"padding is \(1, 2\)"),
    (lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1)), method="fft"), ValueError, "method is 'fft'"),
    (lambda: convolve(jnp.ones((1, 0, 2)), jnp.ones((1, 2, 1)), padding=1), ValueError, r"image \(0,\)"),
    (lambda: convolve(jnp.ones((1, 4, 2), int), jnp.ones((3, 2, 1))), TypeError, "x has dtype int64"),
    (
        lambda: convolve(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 1), jnp.float32)),
        TypeError,
        "x has dtype float64 but w has float32",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_depthwise_convolutions_are_sums_over_the_taps_in_every_derivative() -> None:
    """Nothing of XLA's convolution is left in the program for a CPU, under ``vmap`` neither."""
    geometry = geometry_of("", (6, 5), (3, 2), stride=(2, 1), padding=((1, 0), (0, 1)), groups=8)
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (2, 3, 6, 5, 8)), jax.random.normal(keys[1], (2, 3, 2, 1, 8))

    def derivatives(x: Any, w: Any, method: Any) -> Any:
        value = lambda x, w: jnp.sin(convolution(x, w, geometry, method)).sum()  # noqa: E731
        return jax.grad(value, (0, 1))(x, w), jax.grad(lambda w: jnp.sum(jax.grad(value)(x, w) ** 2))(w)

    by_taps = jax.jit(jax.vmap(lambda x, w: derivatives(x, w, "auto")))
    assert "stablehlo.convolution" not in by_taps.lower(x, w).as_text()
    assert_close(by_taps(x, w), jax.vmap(lambda x, w: derivatives(x, w, "xla"))(x, w))
