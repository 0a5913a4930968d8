"""The experiments on sequences: streams in segments, the adding problem, digits row by row."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from experiments import adding_problem, sequence_digits, streaming
from tests.runs import command_line, files_in, lines_of, only_folder

LOSS = fnnet.losses.softmax_cross_entropy


class TestStreaming:
    model = fnnet.sequential(
        fnnet.Recurrent(fnnet.LSTMCell(3)), fnnet.Dropout(0.3), fnnet.Recurrent(fnnet.RNNCell(4)), fnnet.Dense(5)
    )

    def data(self, steps: int = 6) -> tuple[object, jax.Array, jax.Array]:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, steps, 3))
        return self.model.init(keys[1], x), x, jax.random.randint(keys[2], (2, steps), 0, 5)

    def test_segments_give_what_the_whole_gives(self, x64: None) -> None:
        params, x, _ = self.data()
        carries = streaming.initial_carries(self.model, 2, x.dtype)
        scan = jax.jit(streaming.scan, static_argnums=0)
        first, carries = scan(self.model, params, x[:, :3], carries)
        second, _ = scan(self.model, params, x[:, 3:], carries)
        whole = jax.jit(self.model.apply)(params, x)
        np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-13)

    def test_engines_agree_from_a_given_carry(self, x64: None) -> None:
        params, x, y = self.data()
        carries = jax.tree.map(lambda a: a + 0.3, streaming.initial_carries(self.model, 2, x.dtype))
        by_hand, autodiff = (
            jax.jit(streaming.value_and_grad(self.model, LOSS, engine))(params, (x, y), carries, jax.random.key(5))
            for engine in ("hand", "autodiff")
        )
        for one, other in zip(jax.tree.leaves(by_hand), jax.tree.leaves(autodiff), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)

    def test_recurrences_in_pieces_go_on_too(self, x64: None) -> None:
        """``Rematerialized`` and ``Truncated`` carry the state of the layer that they run."""
        plain = fnnet.Recurrent(fnnet.RNNCell(4))
        params, x, _ = self.data()
        params = params[2:3], x[..., :3]
        for layer in (fnnet.Rematerialized(plain), fnnet.Truncated(plain, 3)):
            one, other = fnnet.sequential(plain), fnnet.sequential(layer)
            carries = jax.tree.map(lambda a: a + 0.3, streaming.initial_carries(other, 2, x.dtype))
            for run in (streaming.scan, lambda *given: streaming.scan_vjp(*given)[0]):
                expected, found = run(one, *params, carries), run(other, *params, carries)
                for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-14)

    @pytest.mark.parametrize(
        "layer", [fnnet.Bidirectional(fnnet.GRUCell(3)), fnnet.Recurrent(fnnet.GRUCell(3), reverse=True)], ids=str
    )
    def test_what_runs_backwards_is_refused(self, layer: fnnet.types.Layer) -> None:
        with pytest.raises(TypeError, match=f"{type(layer).__name__}.* runs backwards in time"):
            streaming.initial_carries(fnnet.sequential(layer), 2)


class TestAddingProblem:
    def test_sequences_are_the_task(self) -> None:
        x, y = adding_problem.sequences(jax.random.key(0), 500, 11)
        numbers, marks = np.asarray(x[..., 0]), np.asarray(x[..., 1])
        assert set(np.unique(marks)) == {0.0, 1.0}
        np.testing.assert_array_equal(marks[:, :5].sum(1), 1)
        np.testing.assert_array_equal(marks[:, 5:].sum(1), 1)
        assert marks.any(0).all()  # every step is marked somewhere
        assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
        np.testing.assert_allclose(y[:, 0], [row[mark == 1].sum() for row, mark in zip(numbers, marks, strict=True)])

    def test_the_error_of_a_constant_predictor_is_a_sixth(self) -> None:
        _, y = adding_problem.sequences(jax.random.key(1), 100_000, 4)
        error = float(jnp.square(y - 1).mean())
        assert error == pytest.approx(adding_problem.CONSTANT, rel=0.01)  # its standard error is 0.4 %

    def test_the_recurrent_matrix_of_irnn_starts_as_the_identity(self) -> None:
        params = adding_problem.cell_of("irnn", 4).init(jax.random.key(0), jax.ShapeDtypeStruct((1, 2), jnp.float32))
        np.testing.assert_array_equal(params["w_h"], np.eye(4))

    def test_forget_gates_start_with_times_up_to_the_length(self) -> None:
        cell = adding_problem.cell_of("lstm_chrono", 200)
        params = cell.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 2), jnp.float32))
        i, f, g, o = np.split(np.asarray(adding_problem.chrono(jax.random.key(1), params, 50)["b"]), 4)
        times = 1 / (1 - 1 / (1 + np.exp(-f)))  # 1 / (1 − σ(b_f)) = 1 + τ
        assert 2 <= times.min() < 5 < 45 < times.max() <= 50
        np.testing.assert_array_equal(i, -f)
        np.testing.assert_array_equal([g, o], 0)

    def test_learned_at_is_the_first_smoothed_error_below(self) -> None:
        costs = np.full(230, 0.2)
        costs[120:] = 0.001
        assert adding_problem.learned_at(costs) == 200  # the group of 101 ... 150 is still above
        assert adding_problem.learned_at(costs[:120]) is None
        assert len(adding_problem.smoothed(costs)) == 5

    def test_learns_short_sums_and_writes_its_results(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = adding_problem.Config(
            lengths=(4,), cells=("gru",), features=16, steps=300, learning_rate=2e-2, runs=tmp_path
        )
        adding_problem.run(config)
        folder = only_folder(tmp_path / "adding_problem")
        assert files_in(folder) == {"config.json", "metrics.jsonl", "summary.md", "curves.png"}
        (line,) = lines_of(folder)
        assert line["error"] < 0.02 < adding_problem.CONSTANT
        assert len(line["costs"]) == 6
        assert "GRU" in capsys.readouterr().out

    def test_bad_options_are_refused_by_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line("adding_problem", "--lengths", "1") == 1
        assert "--lengths is (1,); expected at least 2 steps" in capsys.readouterr().err


class TestSequenceDigits:
    def test_rows_are_the_steps(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sequence_digits.run(
            sequence_digits.Config(digits="small", features=16, epochs=2, learning_rate=1e-2, runs=tmp_path)
        )
        folder = only_folder(tmp_path / "sequence_digits")
        assert files_in(folder) == {"config.json", "metrics.jsonl", "summary.md", "curves.png"}
        last = {line["cell"]: line["validation_accuracy"] for line in lines_of(folder)}
        assert set(last) == {"RNN", "GRU", "LSTM"}
        assert min(last.values()) > 0.3  # chance would be a tenth
        assert "8 rows of 8 pixels" in " ".join(capsys.readouterr().out.split())

    def test_the_environment_names_the_folder_of_mnist(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FNNET_DATA", "/no/such/folder")
        assert command_line("sequence_digits") == 1
        message = capsys.readouterr().err
        assert "no MNIST in the data folder /no/such/folder" in message
        assert "--digits small" in message

    @pytest.mark.parametrize("option", ["--features", "--batch-size", "--epochs"])
    def test_bad_options_are_refused_by_name(self, capsys: pytest.CaptureFixture[str], option: str) -> None:
        assert command_line("sequence_digits", option, "0") == 1
        assert f"{option} is 0; expected at least 1" in capsys.readouterr().err
