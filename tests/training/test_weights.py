"""Parameters as safetensors."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import load_weights, save_weights
from tests.cases import random_params
from tests.compare import assert_identical
from tests.training.problems import NETWORK, X, key


def network_params() -> Any:
    return random_params(NETWORK.model, X)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "bool"])
def test_what_is_saved_is_loaded(tmp_path: Path, dtype: str) -> None:
    """To the bit, in the structure of the shapes; layers without parameters included."""
    params = jax.tree.map(lambda p: (10 * p).astype(dtype), (*network_params(), {"scale": jnp.ones(())}))
    save_weights(tmp_path / "weights", params)
    assert_identical(load_weights(tmp_path / "weights", jax.eval_shape(lambda: params)), params)
    assert os.listdir(tmp_path) == ["weights"]


def test_names_are_paths_and_any_reader_reads_them(tmp_path: Path) -> None:
    """PyTorch's reader; matrices that lie transposed in memory, too."""
    torch = pytest.importorskip("safetensors.torch")
    params = network_params()
    save_weights(tmp_path / "weights", {**{"2": params[0]}, "t": np.asarray(params[0]["w"]).T}, {"source": "test"})
    found = torch.load_file(tmp_path / "weights")
    assert set(found) == {"2.w", "2.b", "t"}
    np.testing.assert_array_equal(found["2.w"].numpy(), params[0]["w"])
    np.testing.assert_array_equal(found["t"].numpy(), np.asarray(params[0]["w"]).T)


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    params = network_params()
    save_weights(tmp_path / "weights", params)
    wider = jax.eval_shape(lambda: ({"w": jnp.ones((3, 5)), "b": jnp.ones(4), "scale": jnp.ones(4)}, *params[1:]))
    with pytest.raises(ValueError, match=r"weights has the parameters of another model: ") as caught:
        load_weights(tmp_path / "weights", wider)
    assert "0.w is float32 (3, 4) in the file, float32 (3, 5) in like" in str(caught.value)
    assert "0.scale is absent in the file, float32 (4,) in like" in str(caught.value)
    with pytest.raises(ValueError, match=r"3.b is float32 .* in the file, absent in like"):
        load_weights(tmp_path / "weights", params[:3])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path, params = tmp_path / "weights", network_params()
    save_weights(path, params)
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(ValueError, match=r"load_weights: .*weights is damaged or not a file of safetensors"):
        load_weights(path, params)
    path.write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match="is damaged or not a file of safetensors"):
        load_weights(path, params)


def test_a_failed_save_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = network_params()
    save_weights(tmp_path / "weights", params)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(tmp_path / "weights", jax.tree.map(jnp.zeros_like, params))
    assert_identical(load_weights(tmp_path / "weights", params), params)
    assert os.listdir(tmp_path) == ["weights"]


def test_leaves_without_names_are_refused(tmp_path: Path) -> None:
    for params in (jnp.ones(2), {"a.b": jnp.ones(2), "a": {"b": jnp.ones(2)}}):
        with pytest.raises(ValueError, match=r"save_weights: params has leaves without a name of their own"):
            save_weights(tmp_path / "weights", params)
    with pytest.raises(TypeError, match=r"save_weights: key is a random key; save jax.random.key_data"):
        save_weights(tmp_path / "weights", {"key": key()})


@pytest.mark.parametrize(("dtype", "value"), [("int64", 2**40), ("float64", 1 + 2**-40), ("uint64", 2**63)])
def test_nothing_is_converted(tmp_path: Path, dtype: str, value: float) -> None:
    """Without 64 bits JAX would make 0 of 2**40."""
    params = {"w": np.full(2, value, dtype)}
    save_weights(tmp_path / "weights", params)
    with pytest.raises(
        ValueError, match=f"load_weights: w in .*weights is {dtype}, which JAX would convert; load it w"
    ):
        load_weights(tmp_path / "weights", params)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(load_weights(tmp_path / "weights", params)["w"], params["w"])
