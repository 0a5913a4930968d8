"""The experiment ``characters``: its texts, its models, its measures and the files that it writes."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import character_model, characters, text
from experiments.cli import ExperimentError
from tests.runs import command_line, files_in, lines_of, only_folder

SENTENCE = "the quick brown fox jumps over the lazy dog, and the dog sleeps on. "


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
        along = x.swapaxes(0, 1).reshape(rows, -1)[0]  # the first row continues from segment to segment
        np.testing.assert_array_equal(along[: min(len(along), 23)], np.arange(min(len(along), 23)))

    def test_the_loss_of_counted_pairs_is_the_formulas(self) -> None:
        corpus = text.corpus("aaabab", 1 / 3, 1)  # the training text is a a a b, the validation text a b
        # a never follows b: (0 + 1) of 0 + 2. b follows a once: (1 + 1) of 3 + 2.
        assert text.pair_loss(corpus) == pytest.approx(-(math.log(1 / 2) + math.log(2 / 5)) / 2)

    def test_pairs_of_many_different_characters(self) -> None:
        """There is no table of all pairs, which would have 10^10 entries here."""
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

    def test_without_a_text_the_documentation_of_python_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
            (b"too short", r"9 characters, 8 of them for training; expected at least 51"),
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
            ("--dropout", "1.5", "--dropout is 1.5; expected a rate in"),
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
        """One row, in segments that do not divide the text, has the loss of the text read at once."""
        params, tokens = self.params(), np.random.default_rng(0).integers(0, 7, 24).astype(np.int32)
        rows = tuple(map(jnp.asarray, text.in_rows(tokens, 1, 5)))
        loss = jax.jit(character_model.held_out_loss(self.model))(params, rows)
        scores = np.asarray(jax.jit(self.model.apply)(params, jnp.asarray(tokens[None, :-1])), np.float64)[0]
        chosen = np.take_along_axis(scores, tokens[1:, None], 1)[:, 0]
        expected = (np.log(np.exp(scores).sum(1)) - chosen).mean()
        assert float(loss) == pytest.approx(expected, abs=1e-6)

    def test_samples_follow_the_models_own_scores(self) -> None:
        """At a temperature near 0 each sample is the likeliest character after all those before it."""
        params, prompt = self.params(), jnp.array([1, 2], jnp.int32)
        tokens = character_model.sample(self.model, params, jax.random.key(1), prompt, 6, 1e-4, window=3)
        seen = jnp.concatenate([prompt, tokens])
        expected = self.model.apply(params, seen[None])[0].argmax(-1)[1:-1]
        np.testing.assert_array_equal(tokens, expected)

    def test_transformer_reads_its_window(self) -> None:
        """From a prompt shorter than the window it reads all tokens at first, and later the last two."""
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
        assert counts.min() > 30  # nearly uniform: 57 of each are expected
        assert np.bincount(cold, minlength=7).max() > counts.max()


class TestCharacters:
    def test_learns_prints_and_writes_its_results(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "text.txt"
        path.write_text(SENTENCE * 30, encoding="utf-8")
        options = {"features": 24, "layers": 1, "length": 17, "batch_size": 8, "epochs": 12, "learning_rate": 2e-2}
        characters.run(
            characters.Config(text=path, runs=tmp_path, samples=1, sample_length=40, prompt="the", **options)
        )
        folder = only_folder(tmp_path / "characters")
        assert files_in(folder) == {"config.json", "metrics.jsonl", "summary.md", "curve.png"}
        records = [line for line in lines_of(folder) if "nats" in line]
        assert len(records) == 12
        assert records[-1]["bits"] == pytest.approx(records[-1]["nats"] / math.log(2))
        assert records[-1]["nats"] < 1.2 < records[0]["nats"]
        assert "bits per held-out character after 12 epochs" in " ".join(capsys.readouterr().out.split())
