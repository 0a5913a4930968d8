"""The record of a run: lines of JSON, and files for TensorBoard."""

import json
from pathlib import Path

import numpy as np
import pytest

from fnnet import Cost, Dense, averaged_params, evaluate, fit, losses, read_record
from fnnet.optimizers import average_parameters, sgd
from fnnet.training.callbacks import JsonLines, TensorBoard
from tests.compare import assert_close
from tests.training.problems import COST, DATA, PARAMS, X, key


def test_a_line_for_every_epoch(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "record.jsonl"
    history = fit(
        COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=3, validation=DATA, batch_size=5, callbacks=[JsonLines(path)]
    ).history
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (
        {name: [line[name] for line in lines] for name in lines[0]}
        == history
        == {name: [line[name] for line in read_record(path)] for name in history}
    )
    fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=5, callbacks=[JsonLines(path)])  # appended
    assert [line["epoch"] for line in read_record(path)] == [1, 2, 3, 1]


def test_numbers_that_are_not_finite_are_json_too(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    cost, data = Cost(Dense(1), losses.squared_error), (X, X[:, :1])
    params = {"w": PARAMS["w"][:, :1], "b": PARAMS["b"][:1]}
    with pytest.warns(RuntimeWarning, match="training stops"):
        fit(cost, sgd(1e30), params, data, key=key(), batch_size=1, callbacks=[JsonLines(path)])
    (line,) = path.read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["cost"] == "nan"
    assert np.isnan(read_record(path)[0]["cost"])


def test_a_file_that_is_no_record_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a list\nof notes\n")
    with pytest.raises(ValueError, match=r"record: line 1 of .*notes.txt is not a JSON object"):
        fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=5, callbacks=[JsonLines(path)])
    assert path.read_text() == "a list\nof notes\n"


def test_files_for_tensorboard(tmp_path: Path) -> None:
    """Read by the protocol buffers of tensorboardX itself: every number at its step."""
    from tensorboardX.proto.event_pb2 import Event

    options = {"epochs": 2, "batch_size": 5, "validation": DATA}
    history = fit(COST, sgd(0.1), PARAMS, DATA, key=key(), callbacks=[TensorBoard(tmp_path)], **options).history
    (path,) = tmp_path.iterdir()
    content, found = path.read_bytes(), {}
    while content:  # length (8 bytes), its checksum (4), the event, its checksum (4)
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert set(found) == set(history) - {"epoch", "step"}
    assert found["cost"] == list(zip(history["step"], np.float32(history["cost"]).tolist(), strict=True))


def test_validation_of_averaged_parameters() -> None:
    optimizer = average_parameters(sgd(0.5), 0.9)
    options = {"epochs": 2, "batch_size": 5, "validation": DATA}
    result = fit(COST, optimizer, PARAMS, DATA, key=key(), validate_on=averaged_params, **options)
    average = averaged_params(result.state)
    assert_close(average, result.state.opt_state.average, 1e-7)
    assert result.history["validation_cost"][-1] == pytest.approx(
        float(evaluate(COST, average, DATA)["cost"]), rel=1e-6
    )
    last = float(evaluate(COST, result.state.params, DATA)["cost"])
    assert abs(result.history["validation_cost"][-1] - last) > 1e-3
    with pytest.raises(ValueError, match="averaged_params: the optimizer keeps 0 averages of the parameters"):
        fit(COST, sgd(0.5), PARAMS, DATA, key=key(), validate_on=averaged_params, **options)
    with pytest.raises(ValueError, match=r"fit: validate_on given without validation data; pass validation=\(x, y\)"):
        fit(COST, optimizer, PARAMS, DATA, key=key(), batch_size=5, validate_on=averaged_params)
