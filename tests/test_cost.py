"""The cost: the mean loss plus the penalty."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Activation,
    Affine,
    Conv,
    Cost,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LowPrecision,
    backprop,
    bind,
    fit,
    identity,
    leaky_relu,
    log_softmax,
    losses,
    penalties,
    relu,
    sequential,
    sigmoid,
    softmax,
    tanh,
)
from fnnet.activations import hard_sigmoid
from fnnet.backprop.losses import loss_gradient
from fnnet.binding import name_of, unbind
from fnnet.optimizers import sgd
from tests.cases import LOSSES, SEED, LossCase, random_params
from tests.compare import CountingTraces, assert_close

PARAMS = {"w": jnp.array([[2.0]]), "b": jnp.array([1.0])}
BATCH = (jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.0]]))


def test_known_answer() -> None:
    """Predictions 1 and 3, targets 0: losses 1 and 9, mean 5; plus ½ · 0.5 · 2² = 1."""
    assert float(Cost(Dense(1), losses.squared_error)(PARAMS, BATCH)) == 5
    assert float(Cost(Dense(1), losses.squared_error, penalties.l2(0.5))(PARAMS, BATCH)) == 6


def test_the_penalty_is_not_divided_by_the_number_of_examples() -> None:
    cost = Cost(Dense(1), losses.squared_error, penalties.l2(0.5))
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), BATCH)
    assert float(cost(PARAMS, twice)) == 6


def test_the_mean_of_a_sequence_is_over_every_position() -> None:
    x = jnp.arange(6.0).reshape(2, 3, 1)
    cost = Cost(Dense(1, use_bias=False), losses.squared_error)
    assert float(cost({"w": jnp.ones((1, 1))}, (x, jnp.zeros_like(x)))) == pytest.approx(np.mean(np.arange(6.0) ** 2))


def test_key_and_train_reach_the_model() -> None:
    cost = Cost(sequential(Dropout(0.5)), losses.squared_error)
    x = jnp.ones((10, 4))
    assert float(cost(({},), (x, x))) == 0
    assert float(cost(({},), (x, x), key=jax.random.key(0), train=True)) == 1  # each entry is 0 or 2
    with pytest.raises(ValueError, match="key is None"):
        cost(({},), (x, x), train=True)


def test_compares_by_value_and_is_a_static_argument() -> None:
    traced = CountingTraces(lambda cost, params, batch: cost(params, batch))
    run = jax.jit(traced, static_argnums=0)
    for _ in range(2):
        assert float(run(Cost(Dense(1), losses.squared_error, penalties.l2(0.5)), PARAMS, BATCH)) == 6
    assert traced.count == 1
    assert Cost(Dense(1), losses.squared_error) != Cost(Dense(1), losses.half_squared_error)


def test_a_list_is_a_batch_too() -> None:
    assert float(Cost(Dense(1), losses.squared_error)(PARAMS, list(BATCH))) == 5


X, Y = BATCH
COST = Cost(Dense(1), losses.squared_error)
ENGINES = pytest.mark.parametrize("engine", [jax.value_and_grad, backprop.value_and_grad], ids=["autodiff", "by hand"])
CLASS_LOSSES = pytest.mark.parametrize("loss", [losses.cross_entropy, losses.softmax_cross_entropy, losses.focal])
IGNORED = -100
LABELS = jnp.array([0, IGNORED, 2, 1, IGNORED])
COUNTED = np.array([0, 2, 3])


def random(*shape: int) -> jax.Array:
    """Return normal numbers, in float64 where that is enabled."""
    return jnp.asarray(np.random.default_rng(SEED).standard_normal(shape), jnp.result_type(float))


def classifier(loss: Any, **options: Any) -> tuple[Cost, Any]:
    model = sequential(Dense(3), softmax) if loss is losses.cross_entropy else sequential(Dense(3))
    loss = bind(loss, **options) if options else loss
    return Cost(model, loss, penalties.l2(0.3), ignore_label=IGNORED), random_params(model, random(5, 2))


class TestIgnoredLabel:
    @ENGINES
    @CLASS_LOSSES
    @pytest.mark.usefixtures("x64")
    def test_the_cost_is_that_of_the_other_examples(self, loss: Any, engine: Any) -> None:
        """The value and the gradients; the penalty is not divided."""
        cost, params = classifier(loss, smoothing=0.1)
        run, x = jax.jit(engine(cost)), random(5, 2)
        assert_close(run(params, (x, LABELS)), run(params, (x[COUNTED], LABELS[COUNTED])))

    @ENGINES
    @CLASS_LOSSES
    def test_all_ignored_costs_the_penalty_alone(self, loss: Any, engine: Any) -> None:
        """0 and not 0 / 0, and no gradient but the penalty's."""
        cost, params = classifier(loss)
        value, grads = jax.jit(engine(cost))(params, (random(5, 2), jnp.full(5, IGNORED)))
        assert float(value) == pytest.approx(float(cost.penalty(params)), rel=1e-6)
        np.testing.assert_allclose(grads[0]["w"], 0.3 * params[0]["w"], rtol=1e-6)
        np.testing.assert_array_equal(grads[0]["b"], np.zeros(3))

    @ENGINES
    def test_where_the_loss_is_infinite_and_its_gradient_nan(self, engine: Any) -> None:
        """Predictions of zeros, as of padding, are no probabilities: −log 0 and −1/0."""
        cost = Cost(Affine(), losses.cross_entropy, ignore_label=IGNORED)
        p = jnp.full((5, 3), 1 / 3).at[1].set(0)
        params = {"scale": jnp.ones(3), "shift": jnp.zeros(3)}
        value, grads = jax.jit(engine(cost))(params, (p, LABELS))
        assert float(value) == pytest.approx(np.log(3), rel=1e-6)
        np.testing.assert_allclose(grads["shift"], [-1, -1, -1], rtol=1e-6)

    @pytest.mark.parametrize(
        "loss",
        [
            lambda p, y: losses.softmax_cross_entropy(p, y),
            partial(losses.softmax_cross_entropy, smoothing=0.0),
            lambda p, y: -jnp.take_along_axis(log_softmax(p), y[..., None], -1)[..., 0],
            lambda p, y: jnp.where((y == 0).any(), 1, jnp.nan) * losses.softmax_cross_entropy(p, y),
        ],
        ids=["lambda", "partial", "of its own", "sees label 0"],
    )
    def test_works_with_any_function(self, loss: Any) -> None:
        cost, params = Cost(Dense(3), loss, ignore_label=IGNORED), random_params(Dense(3), random(5, 2))
        plain, x = Cost(Dense(3), losses.softmax_cross_entropy), random(5, 2)
        expected = jax.value_and_grad(plain)(params, (x[COUNTED], LABELS[COUNTED]))
        assert_close(jax.value_and_grad(cost)(params, (x, LABELS)), expected, 1e-6)
        assert_close(jax.jit(jax.value_and_grad(cost))(params, (x, LABELS)), expected, 1e-6)

    @pytest.mark.parametrize(("dtype", "ignored"), [("uint8", 255), ("uint8", 0), ("int8", -1), ("int32", 2)])
    def test_every_dtype(self, dtype: str, ignored: int) -> None:
        """The label to ignore may also be a class."""
        labels, z = jnp.array([1, ignored, 1], dtype), random(3, 3)
        cost = Cost(sequential(), losses.softmax_cross_entropy, ignore_label=ignored)
        expected = losses.softmax_cross_entropy(z, jnp.array([1, 1, 1]))[jnp.array([0, 2])].mean()
        for run in (cost, jax.jit(cost)):
            assert float(run((), (z, labels))) == pytest.approx(float(expected), rel=1e-6)

    @pytest.mark.parametrize(("ignored", "label"), [(-1, 255), (-100, 156), (256, 0), (2**40, 0)])
    def test_a_label_that_the_dtype_cannot_hold(self, ignored: int, label: int) -> None:
        """It is never there: −100 is not the byte 156."""
        labels, z = jnp.array([1, label], "uint8"), random(2, 257)
        cost = Cost(sequential(), losses.softmax_cross_entropy, ignore_label=ignored)
        for run in (cost, jax.jit(cost)):
            expected = losses.softmax_cross_entropy(z, labels).mean()
            assert float(run((), (z, labels))) == pytest.approx(float(expected), rel=1e-6)

    def test_the_mean_over_positions(self) -> None:
        """Sequences of different lengths, padded with an ignored label: every real position counts once."""
        labels = jnp.array([[0, 1, 2, 1], [2, IGNORED, IGNORED, IGNORED]])
        z = random(2, 4, 3)
        cost = Cost(sequential(), losses.softmax_cross_entropy, ignore_label=IGNORED)
        real = losses.softmax_cross_entropy(jnp.concatenate([z[0], z[1, :1]]), jnp.array([0, 1, 2, 1, 2]))
        assert float(cost((), (z, labels))) == pytest.approx(float(real.mean()), rel=1e-6)
        assert int(cost.counted(labels)) == 5

    @ENGINES
    def test_together_with_weights(self, engine: Any) -> None:
        """A weight per sequence and ignored labels within it."""
        labels, z = jnp.array([[0, IGNORED, 2], [2, 1, 1]]), random(2, 3, 3)
        cost = Cost(sequential(), losses.softmax_cross_entropy, ignore_label=IGNORED)
        each = losses.softmax_cross_entropy(z, jnp.where(labels == IGNORED, 0, labels))
        weights = jnp.array([2.0, 3.0])
        value, _ = engine(cost)((), (z, labels, weights))
        expected = (2 * (each[0, 0] + each[0, 2]) + 3 * each[1].sum()) / (2 * 2 + 3 * 3)
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        assert float(cost.counted(labels, weights, labels.shape)) == 13

    def test_other_labels_out_of_range_are_found(self) -> None:
        cost = Cost(sequential(), losses.softmax_cross_entropy, ignore_label=IGNORED)
        for bad in (3, -1):
            labels = jnp.array([IGNORED, bad, 1])
            with pytest.raises(ValueError, match=rf"label {bad} \(first at \(1,\)\) is outside 0 .. 2"):
                jax.eval_shape(lambda z: cost((), (z, labels)), jnp.zeros((3, 3)))  # noqa: B023
            assert np.isnan(jax.jit(cost)((), (jnp.zeros((3, 3)), labels)))


class TestWeightOfZero:
    @ENGINES
    @pytest.mark.parametrize("target", [np.inf, np.nan])
    def test_an_infinite_or_nan_loss_is_not_there(self, target: float, engine: Any) -> None:
        cost = Cost(Dense(1), losses.squared_error)
        x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[0.0], [0.0], [target]])
        result = engine(cost)(PARAMS, (x, y, jnp.array([1.0, 1.0, 0.0])))
        assert_close(result, engine(cost)(PARAMS, (x[:2], y[:2])), 1e-6)

    @pytest.mark.parametrize("case", [*{unbind(case.loss)[0]: case for case in LOSSES}.values()], ids=str)
    @pytest.mark.usefixtures("x64")
    def test_the_example_is_not_there(self, case: LossCase) -> None:
        """With NaN or infinity in its input, and what its loss refuses as target, compiled or not, by both engines."""
        prediction, target = case.arrays("float64")
        model, x = sequential(Dense(prediction.shape[-1]), case.head), random(*prediction.shape[:-1], 2)
        cost, params = Cost(model, case.loss), random_params(model, x)
        weights = jnp.where(jnp.arange(len(x)) == 0, 0.0, 2.0)

        @jax.jit
        def run(x: jax.Array, y: jax.Array) -> Any:
            engines = (jax.value_and_grad, backprop.value_and_grad)
            others = jax.value_and_grad(cost)(params, (x[1:], y[1:]))
            return others, [engine(cost)(params, (x, y, weights)) for engine in engines]

        for bad in (jnp.nan, jnp.inf):
            y = target.at[0].set(bad if jnp.issubdtype(target.dtype, jnp.floating) else -9)
            expected, found = run(x.at[0].set(bad), y)
            for each in [*found, cost(params, (x.at[0].set(bad), y, weights))]:
                assert_close(each, expected if isinstance(each, tuple) else expected[0])

    @ENGINES
    def test_an_input_that_is_not_counted_because_of_its_labels(self, engine: Any) -> None:
        """All labels of the first sequence are ignored; of the second, one."""
        labels = jnp.array([[IGNORED, IGNORED], [2, IGNORED]])
        x, cost = random(2, 2, 4), Cost(Dense(3), losses.softmax_cross_entropy, ignore_label=IGNORED)
        params = random_params(cost.model, x)
        expected = engine(cost)(params, (x[1:], labels[1:]))
        assert_close(jax.jit(engine(cost))(params, (x.at[0, 1].set(jnp.nan), labels)), expected, 1e-6)

    @ENGINES
    @pytest.mark.parametrize("ignored", [None, IGNORED])
    def test_a_step_of_a_sequence_is_not_there(self, ignored: int | None, engine: Any) -> None:
        """With NaN as input and a label that does not exist, or one that is ignored."""
        counts, x = jnp.array([[True, False, True], [True, True, False]]), random(2, 3, 2)
        labels = jnp.array([[2, 0, 1], [0, 1, 2]])
        cost = Cost(Dense(3), losses.softmax_cross_entropy, ignore_label=ignored)
        params = random_params(cost.model, x)
        expected = engine(cost)(params, (x[counts], labels[counts]))
        x = jnp.where(counts[..., None], x, jnp.array([jnp.nan, jnp.inf]))
        batch = (x, jnp.where(counts, labels, -1 if ignored is None else ignored))
        batch = batch if ignored else (*batch, counts.astype(x.dtype))
        for run in (engine(cost), jax.jit(engine(cost))):
            assert_close(run(params, batch), expected, 1e-6)

    def test_a_target_that_is_not_counted_has_no_gradient(self) -> None:
        def of(y: jax.Array) -> jax.Array:
            return Cost(sequential(), losses.kl_divergence)((), (jnp.full((2, 2), 0.5), y, jnp.array([0.0, 1.0])))

        np.testing.assert_allclose(jax.grad(of)(jnp.array([[jnp.nan, 0.0], [0.5, 0.5]])), [[0, 0], [1, 1]], rtol=1e-6)

    @ENGINES
    @pytest.mark.parametrize("weight", [-1.0, np.nan])
    def test_a_negative_weight_makes_a_compiled_cost_nan(self, weight: float, engine: Any) -> None:
        value, grads = jax.jit(engine(COST))(PARAMS, (X, Y, jnp.array([2.0, weight])))
        assert np.isnan(value)
        assert np.isnan(grads["w"]).all()

    def test_gradient_of_the_weights(self) -> None:
        """(ℓ_n − cost) / Σ w, and 0 for an example that is not there."""
        losses_of, weights = np.array([1.0, 9.0]), np.array([2.0, 3.0])
        grad = jax.grad(lambda w: COST(PARAMS, (X, Y, w)))
        expected = (losses_of - weights @ losses_of / 5) / 5
        np.testing.assert_allclose(grad(jnp.asarray(weights, "float32")), expected, rtol=1e-6)
        np.testing.assert_array_equal(grad(jnp.array([2.0, 0.0])), [0, 0])

    def test_class_weights_as_in_pytorch(self) -> None:
        """The weights of the labels as those of the examples: the mean divides by their sum.

        In ``fit``, with class weights whose sum over the labels is the number of examples.
        """
        z, y, w = random(4, 3), jnp.array([0, 2, 2, 1]), jnp.array([1.0, 2.0, 4.0])
        each = np.asarray(losses.softmax_cross_entropy(z, y), float)
        expected = (np.asarray(w)[y] * each).sum() / (1 + 4 + 4 + 2)
        cost = Cost(sequential(), losses.softmax_cross_entropy)
        assert float(cost((), (z, y, w[y]))) == pytest.approx(expected, rel=1e-6)
        weights = tuple((w * len(y) / w[y].sum()).tolist())
        alike = Cost(sequential(), bind(losses.softmax_cross_entropy, class_weights=weights))
        history = fit(alike, sgd(0.1), (), (z, y), key=jax.random.key(0), epochs=1, batch_size=len(y)).history
        assert history["cost"] == [pytest.approx(expected, rel=1e-6)]

    def test_nothing_that_counts_costs_nothing(self) -> None:
        """Where the weights are not known, and whatever the inputs are."""
        for engine in (jax.value_and_grad, backprop.value_and_grad):
            value, grads = jax.jit(engine(COST))(PARAMS, (X * jnp.nan, Y, jnp.zeros(2)))
            assert float(value) == 0
            np.testing.assert_array_equal(grads["w"], [[0]])

    @ENGINES
    def test_a_nan_that_counts_is_seen(self, engine: Any) -> None:
        value, grads = engine(COST)(PARAMS, (X, Y.at[0].set(jnp.nan), jnp.ones(2)))
        assert np.isnan(value)
        assert np.isnan(grads["w"]).all()


class TestLossScale:
    @ENGINES
    def test_value_and_gradients_are_scaled(self, engine: Any) -> None:
        """By a power of two: exactly; the penalty too, and an example of weight 0 stays out."""
        cost, params = classifier(losses.cross_entropy)
        for batch in ((random(5, 2), LABELS), (random(5, 2), LABELS, jnp.array([1.0, 1.0, 2.0, 0.0, 1.0]))):
            once, scaled = engine(cost)(params, batch), jax.jit(engine(cost))(params, batch, loss_scale=2.0**15)
            assert_close(scaled, jax.tree.map(lambda a: 2.0**15 * a, once), 1e-6)

    @ENGINES
    def test_small_gradients_survive_in_float16(self, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gradients below 3e-8 round to 0 in float16; those of 2¹⁵ times the cost are right."""
        monkeypatch.setitem(backprop.LOSS_GRADIENTS, tiny_loss, lambda z, y: TINY * loss_gradient(CLASS_LOSS, z, y))
        model, x, y = sequential(Dense(8), tanh, Dense(3)), random(64, 4), jnp.arange(64) % 3
        params = random_params(model, x)
        low = Cost(LowPrecision(model, "float16"), tiny_loss)
        assert not any(g.any() for g in jax.tree.leaves(engine(low)(params, (x, y))[1]))
        value, grads = jax.jit(engine(low))(params, (x, y), loss_scale=2.0**15)
        with jax.enable_x64(True):
            wide, x = jax.tree.map(lambda p: p.astype("float64"), params), x.astype("float64")
            expected = jax.value_and_grad(Cost(model, tiny_loss))(wide, (x, y))
        assert_close((value / 2.0**15, jax.tree.map(lambda g: g / 2.0**15, grads)), expected, 1e-2)

    def test_more_than_float16_holds(self) -> None:
        """The scale of a float16 cost is applied in float32."""
        cost = Cost(sequential(), losses.squared_error)
        value = cost((), (jnp.ones((2, 1), "float16"), jnp.zeros((2, 1), "float16")), loss_scale=2.0**20)
        assert (float(value), value.dtype) == (2.0**20, jnp.float32)


TINY, CLASS_LOSS = 1e-8, losses.softmax_cross_entropy


def tiny_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return TINY * CLASS_LOSS(prediction, target)


def scalar_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.square(prediction - target).mean()


def pairs_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.square(prediction - target[:, 0])


def weighted(*weights: float) -> Any:
    return COST(PARAMS, (X, Y, jnp.array(weights)))


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: COST(PARAMS, (X, {"a": Y})),
        TypeError,
        "Cost: y is of the type dict; expected one array of numbers, of NumPy or of JAX",
    ),
    (lambda: COST(PARAMS, ({"a": X}, Y)), TypeError, "Cost: x is of the type dict; expected one array"),
    (lambda: COST(PARAMS, (X, Y, "ab")), TypeError, "Cost: weights is of the type str; expected one array"),
    (
        lambda: weighted(-1.0, 2.0),
        ValueError,
        "Cost: weights has negative, infinite or NaN entries, or all of them are 0",
    ),
    (lambda: weighted(0.0, 0.0), ValueError, "Cost: weights has .* at least one above 0"),
    (lambda: weighted(np.nan, 1.0), ValueError, "Cost: weights has "),
    (lambda: weighted(np.inf, 1.0), ValueError, "Cost: weights has "),
    (
        lambda: Cost(Dense(1), pairs_loss)(PARAMS, BATCH),
        ValueError,
        r"pairs_loss gave shape \(2, 2\) .* a target of shape \(2, 1\), a number for every pair of examples",
    ),
    (
        lambda: Cost(Dense(1), losses.squared_error)(PARAMS, (jnp.ones((2, 0, 1)), jnp.ones((2, 0, 1)))),
        ValueError,
        r"squared_error gave shape \(2, 0\) .* at least one number for each example",
    ),
    (
        lambda: Cost(sequential(), losses.squared_error)((), (X[:, 0], Y[:, 0])),
        ValueError,
        r"squared_error gave shape \(\) .*: give the prediction an output axis, for example \(N, 1\)",
    ),
    (lambda: COST(PARAMS, X), TypeError, r"Cost: batch is ArrayImpl; expected a pair \(x, y\)"),
    (lambda: COST(PARAMS, (X, Y, X, Y)), TypeError, "Cost: batch is tuple; expected a pair"),
    (lambda: COST(PARAMS, (X, Y[:1])), ValueError, r"x has shape \(2, 1\) and y has shape \(1, 1\); expected the same"),
    (lambda: COST(PARAMS, (X[:0], Y[:0])), ValueError, r"x has shape \(0, 1\) .* at least one"),
    (lambda: COST(PARAMS, (1.0, 1.0)), ValueError, r"x has shape \(\)"),
    (
        lambda: Cost(Dense(1), losses.squared_error, ignore_label=True),
        TypeError,
        "ignore_label is True; expected an int",
    ),
    (lambda: Cost(Dense(1), losses.squared_error, ignore_label=1.0), TypeError, "Cost: ignore_label is 1.0; expected"),
    (
        lambda: Cost(Dense(1), losses.squared_error, ignore_label=0)(PARAMS, BATCH),
        TypeError,
        "Cost: ignore_label is 0 but target has dtype float32; expected integer labels: leave ignore_label out",
    ),
    (
        lambda: Cost(Dense(1), lambda p, y: p.sum(-1), ignore_label=0)(PARAMS, (X, jnp.zeros((2, 3), int))),
        ValueError,
        r"Cost: target has shape \(2, 3\), which does not fit \(2, 1\); expected \(2,\) or the shape of the losses",
    ),
    (
        lambda: Cost(Dense(1), scalar_loss)(PARAMS, BATCH),
        ValueError,
        r"scalar_loss gave shape \(\) .* one number per .*leave out its mean",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


MISTAKES: list[tuple[Any, Any, str]] = [
    (sequential(Dense(3), softmax), losses.softmax_cross_entropy, "takes logits, but the model ends with softmax"),
    (sequential(Dense(3), softmax), bind(losses.focal, gamma=1.0), "takes logits, but the model ends with softmax"),
    (sequential(Dense(3), sigmoid), losses.sigmoid_cross_entropy, "takes logits, but the model ends with sigmoid"),
    (sequential(tanh, sequential(Dense(3), sigmoid)), losses.softmax_cross_entropy, "model ends with sigmoid"),
    (LowPrecision(sequential(Dense(3), softmax)), losses.softmax_cross_entropy, "the model ends with softmax"),
    (
        sequential(Dense(3)),
        losses.cross_entropy,
        "takes probabilities, but the model ends with Dense: take losses.soft",
    ),
    *(
        (
            sequential(Dense(3), end),
            losses.cross_entropy,
            f"ends with {name_of(unbind(end)[0])}: take losses.softmax_cross_entropy",
        )
        for end in (relu, log_softmax, sigmoid, bind(leaky_relu, slope=0.1), jax.nn.relu, jax.nn.log_softmax)
    ),
    (sequential(Dense(3), log_softmax, Flatten()), losses.kl_divergence, "ends with log_softmax: take losses.softmax"),
    (sequential(Dense(1), tanh), losses.binary_cross_entropy, "ends with tanh: take losses.sigmoid_cross_entropy, or"),
    *(
        (
            sequential(Dense(3), Activation(softmaxes)),
            losses.softmax_cross_entropy,
            "the model ends with softmax: leave",
        )
        for softmaxes in (jax.nn.softmax, partial(jax.nn.softmax, axis=-1))
    ),
    (sequential(Dense(3), softmax, Flatten()), losses.softmax_cross_entropy, "the model ends with softmax: leave"),
    (sequential(Conv(3, 1), softmax, identity, GlobalAvgPool()), losses.focal, "the model ends with softmax: leave"),
    (Dense(3), losses.binary_cross_entropy, "takes probabilities, but the model ends with Dense: take losses.sigmoid"),
]


@pytest.mark.parametrize(("model", "loss", "message"), MISTAKES)
def test_warned_of(model: Any, loss: Any, message: str) -> None:
    """Once where the cost is made; the message says how to silence it, and that works."""
    with pytest.warns(UserWarning, match=rf"Cost: .* {message}.*filterwarnings") as caught:
        Cost(model, loss)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cost: ")
        Cost(model, loss)


def test_not_warned_of() -> None:
    """The pairs that belong together, and a function of one's own."""
    Cost(sequential(Dense(3), softmax), losses.cross_entropy)
    Cost(sequential(Dense(3), sigmoid), losses.binary_cross_entropy)
    Cost(sequential(softmax, Dense(3)), losses.softmax_cross_entropy)
    Cost(sequential(Dense(3), softmax), losses.squared_error)
    Cost(sequential(Dense(3), jax.nn.softmax, identity), losses.cross_entropy)
    Cost(sequential(Dense(3), hard_sigmoid, Flatten()), losses.binary_cross_entropy)
    Cost(sequential(Dense(3), lambda z: z / z.sum(-1, keepdims=True)), losses.cross_entropy)
    Cost(sequential(Dense(3), softmax), lambda p, y: losses.softmax_cross_entropy(p, y))


def with_labels(prediction: jax.Array, labels: jax.Array) -> jax.Array:
    return -log_softmax(prediction)[jnp.arange(len(labels)), labels]


def of_neighbours(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """A loss in which all targets of the batch are compared with each prediction, on purpose."""
    return -jnp.diagonal(log_softmax(jnp.einsum("nd,md->nm", prediction, target)))


PAIRS: list[tuple[Any, tuple[int, ...], Any, bool]] = [
    (lambda p, y: jnp.square(p - y).mean(-1), (4, 1), jnp.zeros(4), True),
    (lambda p, y: jnp.abs(p - y[:, 0]).mean(1), (4, 1), jnp.zeros((4, 1)), True),
    (jax.jit(lambda p, y: jnp.where(y > 0, p, -p).sum(1)), (4, 1), jnp.zeros(4), True),
    (lambda p, y: jnp.square(p - y).mean(-1), (4, 1), jnp.zeros((4, 1)), False),
    (lambda p, y: jnp.square(p - y).mean(-1), (4, 4), jnp.zeros((4, 4)), False),
    (lambda p, y: jnp.square(p).mean(-1), (4, 2), jnp.zeros(4), False),
    (lambda p, y: jax.vmap(lambda p, y: jnp.square(p - y).mean())(p, y), (4, 1), jnp.zeros(4), False),
    (with_labels, (4, 4), jnp.arange(4), False),
    (of_neighbours, (4, 2), jnp.zeros((4, 2)), False),
]


@pytest.mark.parametrize(("loss", "shape", "target", "warned"), PAIRS)
def test_warned_of_a_loss_that_broadcasts_examples(loss: Any, shape: Any, target: jax.Array, warned: bool) -> None:
    """Its result has the right shape, because it takes a mean over the other examples."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Cost(sequential(), loss)((), (jnp.zeros(shape), target))
    assert [str(each.message).split(" computes ")[1][:24] for each in caught] == ["a number for every pair "] * warned
