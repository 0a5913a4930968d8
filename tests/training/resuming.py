"""A run that saves as it goes, for other processes to start, to kill and to finish."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EPOCHS = 150


def run(directory: str | None, record: str | None, epochs: int = EPOCHS, told: Any = None) -> dict[str, Any]:
    """Train a network with dropout, early stopping and a last smaller batch; the bits of all that comes out.

    ``told(event, number)`` hears of every epoch begun with and of every checkpoint reported saved.
    """
    from fnnet import Checkpoint, fit
    from fnnet.optimizers import adam
    from fnnet.training.callbacks import EarlyStopping, JsonLines
    from tests.cases import random_params
    from tests.training.problems import DATA, NETWORK, X, key

    def saved(step: int) -> None:
        if told is not None:
            told("saved", step)

    def callback(state: Any, record: dict[str, float]) -> None:
        if told is not None:
            told("epoch", int(state.step))

    result = fit(
        NETWORK,
        adam(0.003),
        random_params(NETWORK.model, X),
        DATA,
        key=key(),
        epochs=epochs,
        batch_size=4,
        validation=DATA,
        callbacks=[EarlyStopping(epochs), *([] if record is None else [JsonLines(record)]), callback],
        checkpoint=None if directory is None else Checkpoint(directory, keep=2, on_saved=saved),
    )
    state = result.state._replace(key=jax.random.key_data(result.state.key))
    return {
        "state": [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)],
        "history": {name: numbers for name, numbers in result.history.items() if "seconds" not in name},
    }


def child(connection: Any, cache: str, *arguments: Any) -> None:
    """The process: sends what it is told and, at the end, what came out."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jnp.zeros(())
    connection.send(("result", run(*arguments, told=lambda event, number: connection.send((event, number)))))
