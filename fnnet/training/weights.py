"""Parameters in a file, for exchange: safetensors, with the paths in the tree as names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.extras import imported
from fnnet.paths import named_leaves
from fnnet.training.placement import is_key
from fnnet.types import Params

DTYPES = {  # safetensors' names; its own reader for NumPy knows no bfloat16
    **{"BOOL": np.bool_, "F16": np.float16, "BF16": jnp.bfloat16, "F32": np.float32, "F64": np.float64},
    **{"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64},
    **{"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64},
}


def save_weights(path: str | Path, params: Params, metadata: Mapping[str, str] | None = None) -> None:
    """Write parameters as safetensors, ``"0.w"`` for the weights of layer 0. The file appears complete or not at all.

    ``metadata`` are texts to store with them. Any library that reads safetensors reads the file; nothing in it is run.
    """
    safetensors = imported("save_weights", "safetensors.numpy", "checkpoint")
    pairs = named_leaves(params)
    for name, leaf in pairs:
        if hasattr(leaf, "dtype") and is_key(leaf):
            raise TypeError(f"save_weights: {name} is a random key; save jax.random.key_data of it")
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in pairs}
    if len(arrays) < len(pairs) or "" in arrays:
        raise ValueError("save_weights: params has leaves without a name of their own; expected dicts and tuples")
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")  # a name of its own, as others may write at the same time
    try:
        with part.open("wb") as file:
            file.write(safetensors.save(arrays, metadata=dict(metadata or {})))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_weights(path: str | Path, like: Params) -> Params:
    """Return the parameters in a file that ``save_weights`` wrote, in the structure of ``like``.

    ``like`` are parameters, or their shapes: ``jax.eval_shape(model.init, key, x)``. Names, shapes and dtypes must be
    those of ``like``; nothing is converted.
    """
    safetensors = imported("load_weights", "safetensors", "checkpoint")
    try:
        found = {
            name: np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in safetensors.deserialize(Path(path).read_bytes())
        }
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"load_weights: {path} is damaged or not a file of safetensors: {error}") from error
    for name, array in found.items():
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(
                f"load_weights: {name} in {path} is {array.dtype}, which JAX would convert; load it within "
                f"jax.enable_x64(True)"
            )
    expected = named_leaves(like)
    ours = {name: f"{leaf.dtype} {tuple(leaf.shape)}" for name, leaf in expected}
    theirs = {name: f"{array.dtype} {array.shape}" for name, array in found.items()}
    different = [
        f"{name} is {theirs.get(name, 'absent')} in the file, {ours.get(name, 'absent')} in like"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    if different:
        raise ValueError(f"load_weights: {path} has the parameters of another model: {'; '.join(different)}")
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(found[name]) for name, _ in expected])
