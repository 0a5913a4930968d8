"""The checks before training: on one batch, or on the data once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from fnnet import checks
from fnnet.cost import Cost, split_weighted
from fnnet.data.stream import Stream
from fnnet.diagnosis.report import Check, Report, report_of
from fnnet.diagnosis.subject import Subject
from fnnet.diagnosis.verdicts import data as of_data
from fnnet.diagnosis.verdicts import pairing, start, structure
from fnnet.types import Array, Params

# By the names of their verdicts; the docstring of a check is the page of the handbook. Theorems come first.
CHECKS: dict[str, Check] = {
    check.__name__.replace("_", " "): check
    for check in (
        pairing.output_cannot_express_the_targets,
        of_data.constant_or_copied_features,
        of_data.rows_occur_in_training_and_test,
        start.units_start_identical,
        start.a_layer_is_dead_at_the_start,
        structure.a_parameter_is_not_connected,
        structure.the_network_is_an_affine_map,
        structure.examples_of_a_batch_mix,
        structure.a_step_sees_the_future,
        structure.evaluation_is_random,
        structure.train_mode_differs,
        pairing.loss_is_flat_where_the_output_is_most_wrong,
        pairing.loss_at_the_start_is_not_that_of_knowing_nothing,
        of_data.inputs_are_not_scaled,
        of_data.targets_are_not_scaled,
        of_data.labels_do_not_depend_on_the_inputs,
        of_data.a_feature_gives_the_answer_away,
        of_data.classes_are_unbalanced,
        of_data.data_are_sorted_and_not_shuffled,
        start.signal_dies_on_the_way_in,
        start.the_gradient_does_not_reach_a_layer,
        start.one_batch_cannot_be_learned,
        start.learning_rate_out_of_range,
    )
}


def preflight(
    cost: Cost,
    params: Params,
    data: Any,
    validation: Any = None,
    optimizer: Any = None,
    *,
    key: Array,
    shuffle: bool = True,
    leave_out: Iterable[str] = (),
) -> Report:
    """Return what is wrong before training: with the data, the loss, the start, and the program that computes the cost.

        report = fnnet.diagnosis.preflight(cost, params, (x, y), validation=(x_test, y_test), key=key)
        print(report)

    ``data`` and ``validation`` are pairs ``(x, y)`` of arrays, or triples with weights, or streams, of
    which one batch is read. With an ``optimizer`` its learning rate is compared with others on one batch.
    ``shuffle=False`` says that the run will not shuffle the data. ``leave_out`` has the names of verdicts that are
    meant to be, such as ``"the network is an affine map"``.

    No argument is changed, and the same arguments give the same report. Layers are looked into by
    ``fnnet.layers.children``; ``report.not_looked_at`` says what could not be seen of others. A cost that does not take
    the data at all raises its own error.
    """
    checks.random_key("preflight", key)
    x, y, weights, whole = arrays_of("data", data, key)
    fault = next((f"{name} has NaN or infinite entries" for name, a in (("x", x), ("y", y)) if not finite(a)), None)
    if fault is not None:
        return Report((), (), dict.fromkeys(CHECKS, f"{fault}, which fit refuses: take these examples out"))
    other = None if validation is None else arrays_of("validation", validation, key)[:2]
    subject = Subject(cost, params, x, y, weights, other, optimizer, key, shuffle, whole)
    report = report_of(CHECKS, subject, leave_out)
    closed = {
        f"the inside of layer {path}" if path else "the inside of the model": (
            f"{type(layer).__name__} shows no layers; give it a method children"
        )
        for path, layer in subject.closed.items()
    }
    return replace(report, not_looked_at={**report.not_looked_at, **closed})


def arrays_of(name: str, data: Any, key: Array) -> tuple[Any, Any, Any, bool]:
    """Return inputs, targets and weights in the memory of the host, and whether they are all of the data."""
    if isinstance(data, Stream):
        return *data.first(key), None, False
    x, y, weights = split_weighted(f"preflight: {name}", data)
    return np.asarray(x), np.asarray(y), None if weights is None else np.asarray(weights), True


def finite(a: Any) -> bool:
    return not checks.is_float(a) or bool(np.isfinite(np.asarray(a, np.float32)).all())
