"""Experiments on sequences: streams in pieces, texts, the adding problem, digits row by row."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from experiments import adding_problem, character_model, characters, sequence_digits, streaming, text
from experiments.__main__ import EXPERIMENTS
from experiments.cli import ExperimentError, main

LOSS = fnnet.losses.softmax_cross_entropy
SENTENCE = "the quick brown fox jumps over the lazy dog, and the dog sleeps on. "


def command_line(*arguments: str) -> int:
    return main("python -m experiments", EXPERIMENTS, default="digits", arguments=arguments)


def only_folder(path: Path) -> Path:
    (folder,) = path.iterdir()
    return folder


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class TestStreaming:
    model = fnnet.sequential(
        fnnet.Recurrent(fnnet.LSTMCell(3)), fnnet.Dropout(0.3), fnnet.Recurrent(fnnet.RNNCell(4)), fnnet.Dense(5)
    )

    def data(self, steps: int = 6) -> tuple[object, jax.Array, jax.Array]:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, steps, 3))
        return self.model.init(keys[1], x), x, jax.random.randint(keys[2], (2, steps), 0, 5)

    def test_pieces_give_what_the_whole_gives(self, x64: None) -> None:
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
        """``Checkpointed`` and ``Truncated`` carry the state of the layer that they run."""
        plain = fnnet.Recurrent(fnnet.RNNCell(4))
        params, x, _ = self.data()
        params = params[2:3], x[..., :3]
        for layer in (fnnet.Checkpointed(plain), fnnet.Truncated(plain, 3)):
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


class TestText:
    def test_corpus_is_cut_at_its_end(self) -> None:
        corpus = text.corpus("abcabcabca", 0.3, 2)
        assert corpus.alphabet == "abc"
        assert text.decode(corpus.train, corpus.alphabet) == "abcabca"
        assert text.decode(corpus.validation, corpus.alphabet) == "bca"

    @pytest.mark.parametrize(("length", "rows"), [(2, 3), (5, 1), (2, 4), (23, 2)])
    def test_every_character_is_predicted_once(self, length: int, rows: int) -> None:
        tokens = np.arange(24, dtype=np.int32)
        x, y, counts = text.in_rows(tokens, rows, length)
        assert x.shape == y.shape == counts.shape
        assert x.shape[1:] == (rows, length)
        assert sorted(y[counts]) == list(range(1, 24))
        np.testing.assert_array_equal(x[counts] + 1, y[counts])
        along = x.swapaxes(0, 1).reshape(rows, -1)[0]  # the first row goes on from piece to piece
        np.testing.assert_array_equal(along[: min(len(along), 23)], np.arange(min(len(along), 23)))

    def test_counting_is_what_the_formula_says(self) -> None:
        corpus = text.corpus("aaabab", 1 / 3, 1)  # learns a a a b, held out a b
        # a after b: never, plus one, of 0 + 2; b after a: once, plus one, of 3 + 2
        assert text.pair_loss(corpus) == pytest.approx(-(math.log(1 / 2) + math.log(2 / 5)) / 2)

    def test_pairs_of_many_different_characters(self) -> None:
        """No table of all pairs, which would have 10^10 entries here."""
        corpus = text.corpus("".join(map(chr, range(0x10000, 0x10000 + 100_000))), 0.1, 1)
        assert text.pair_loss(corpus) == pytest.approx(math.log(100_000), rel=1e-6)

    def test_characters_of_code_zero_are_characters(self) -> None:
        corpus = text.corpus("a\0ba\0b", 0.5, 1)
        assert corpus.alphabet == "\0ab"
        assert text.decode(corpus.train, corpus.alphabet) == "a\0b"

    def test_the_first_held_out_character_is_predicted_too(self) -> None:
        corpus = text.corpus("abcdefgh", 0.5, 1)
        assert text.decode(corpus.held_out, corpus.alphabet) == "defgh"
        _, y, counts = text.in_rows(corpus.held_out, 2, 3)
        assert sorted(y[counts]) == sorted(corpus.validation)

    def test_without_a_text_python_explains_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FNNET_DATA", raising=False)
        content, source = text.find(None)
        assert len(content) > 100_000
        assert "help()" in source

    def test_prompt_is_a_line_break_or_how_the_text_begins(self) -> None:
        assert characters.prompt_of(characters.Config(), "one\ntwo") == "\n"
        assert characters.prompt_of(characters.Config(), "one two") == "o"
        assert characters.prompt_of(characters.Config(prompt="two"), "one two") == "two"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"caf\xe9 au lait", r"is not UTF-8: byte 3 is 0xe9"),
            (b"too short", r"9 characters, 8 of them to learn from: shorter than one sequence of 50"),
            (None, r"cannot read the text .*No such file"),
        ],
    )
    def test_bad_texts_are_refused_by_name(self, tmp_path: Path, content: bytes | None, message: str) -> None:
        path = tmp_path / "text.txt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ExperimentError, match=message):
            characters.run(characters.Config(text=path, runs=tmp_path))

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("--temperature", "0", "--temperature is 0.0; expected a number above 0"),
            ("--prompt", "é", "the prompt has 'é', which is not in the text"),
            ("--validation-share", "1.5", "--validation-share is 1.5"),
            ("--epochs", "0", "--epochs is 0; expected at least 1"),
            ("--dropout", "1.5", "--dropout is 1.5; expected a share in"),
        ],
    )
    def test_bad_options_are_refused_by_name(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
    ) -> None:
        (tmp_path / "text.txt").write_text(SENTENCE * 20)
        assert command_line("characters", "--text", str(tmp_path / "text.txt"), option, value) == 1
        assert message in capsys.readouterr().err


class TestCharacterModel:
    model = character_model.network("gru", 7, 4, 2)

    def params(self) -> object:
        return self.model.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 3), jnp.int32))

    def test_held_out_loss_is_the_mean_over_all_characters(self) -> None:
        """One row and pieces that do not divide the text: as if it were read in one go."""
        params, tokens = self.params(), np.random.default_rng(0).integers(0, 7, 24).astype(np.int32)
        rows = tuple(map(jnp.asarray, text.in_rows(tokens, 1, 5)))
        loss = jax.jit(character_model.held_out_loss(self.model))(params, rows)
        scores = np.asarray(jax.jit(self.model.apply)(params, jnp.asarray(tokens[None, :-1])), np.float64)[0]
        chosen = np.take_along_axis(scores, tokens[1:, None], 1)[:, 0]
        expected = (np.log(np.exp(scores).sum(1)) - chosen).mean()
        assert float(loss) == pytest.approx(expected, abs=1e-6)

    def test_samples_follow_the_models_own_scores(self) -> None:
        """At a temperature near 0 each is the likeliest character after all those before it."""
        params, prompt = self.params(), jnp.array([1, 2], jnp.int32)
        tokens = character_model.sample(self.model, params, jax.random.key(1), prompt, 6, 1e-4, window=3)
        seen = jnp.concatenate([prompt, tokens])
        expected = self.model.apply(params, seen[None])[0].argmax(-1)[1:-1]
        np.testing.assert_array_equal(tokens, expected)

    def test_transformer_reads_its_window(self) -> None:
        """From a prompt shorter than the window: at first all that there is, later the last two tokens."""
        model, prompt = character_model.network("transformer", 7, 4, 1, heads=2), jnp.array([1], jnp.int32)
        params = model.init(jax.random.key(3), jax.ShapeDtypeStruct((1, 3), jnp.int32))
        tokens = character_model.sample(model, params, jax.random.key(4), prompt, 4, 1e-4, window=2)
        apply = jax.jit(model.apply)
        seen = jnp.concatenate([prompt, tokens])
        expected = [apply(params, seen[None, max(0, i - 2) : i])[0, -1].argmax() for i in range(1, 5)]
        np.testing.assert_array_equal(tokens, expected)

    def test_higher_temperature_spreads_the_samples(self) -> None:
        params, prompt = self.params(), jnp.array([1], jnp.int32)
        cold, hot = (
            character_model.sample(self.model, params, jax.random.key(2), prompt, 400, temperature, window=3)
            for temperature in (0.1, 100.0)
        )
        counts = np.bincount(hot, minlength=7)
        assert counts.min() > 30  # nearly uniform: 57 expected of each
        assert np.bincount(cold, minlength=7).max() > counts.max()


class TestCharacters:
    def test_learns_prints_and_leaves_its_results(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "text.txt"
        path.write_text(SENTENCE * 30, encoding="utf-8")
        options = {"features": 24, "layers": 1, "length": 17, "batch_size": 8, "epochs": 12, "learning_rate": 2e-2}
        characters.run(
            characters.Config(text=path, runs=tmp_path, samples=1, sample_length=40, prompt="the", **options)
        )
        folder = only_folder(tmp_path / "characters")
        assert {file.name for file in folder.iterdir()} == {"config.json", "metrics.jsonl", "summary.md", "curve.png"}
        records = [line for line in lines_of(folder) if "nats" in line]
        assert len(records) == 12
        assert records[-1]["bits"] == pytest.approx(records[-1]["nats"] / math.log(2))
        assert records[-1]["nats"] < 1.2 < records[0]["nats"]
        assert "bits per held-out character after 12 epochs" in " ".join(capsys.readouterr().out.split())


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

    def test_constant_predictor_has_a_sixth(self) -> None:
        _, y = adding_problem.sequences(jax.random.key(1), 100_000, 4)
        error = float(jnp.square(y - 1).mean())
        assert error == pytest.approx(adding_problem.CONSTANT, rel=0.01)  # its standard error is 0.4 %

    def test_identity_recurrence_starts_as_one(self) -> None:
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

    def test_learns_short_sums_and_leaves_its_results(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = adding_problem.Config(
            lengths=(4,), cells=("gru",), features=16, steps=300, learning_rate=2e-2, runs=tmp_path
        )
        adding_problem.run(config)
        folder = only_folder(tmp_path / "adding_problem")
        assert {file.name for file in folder.iterdir()} == {"config.json", "metrics.jsonl", "summary.md", "curves.png"}
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
        assert {file.name for file in folder.iterdir()} == {"config.json", "metrics.jsonl", "summary.md", "curves.png"}
        last = {line["cell"]: line["validation_accuracy"] for line in lines_of(folder)}
        assert set(last) == {"RNN", "GRU", "LSTM"}
        assert min(last.values()) > 0.3  # a tenth would be chance
        assert "8 rows of 8 pixels" in " ".join(capsys.readouterr().out.split())

    def test_mnist_is_read_where_its_folder_is_named(
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
