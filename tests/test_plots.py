"""Pictures: what their lines, levels, axes and styles are."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from fnnet import plots


def test_lines_of_other_panels_are_behind() -> None:
    figure = plots.line_panels({"A": {"a": ([1, 2], [1, 2])}, "B": {"b": ([1, 2], [2, 1])}}, xlabel="x", ylabel="y")
    first, second = figure.axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["a"]
    assert [line.get_color() for line in second.lines] == ["0.85", "0.85", plots.COLORS[0]]


def test_contours_are_evenly_spaced_in_logarithms() -> None:
    x = np.linspace(-1, 1, 21)
    heights = x[:, None] ** 2 + x**2
    path = np.array([[1.0, 1.0], [0.5, np.nan], [0.1, 0.1]])
    figure = plots.descent_paths(x, x, heights, {"A": {"a": path}}, minima=[(0, 0)], levels=5)
    levels = figure.axes[0].collections[0].levels
    np.testing.assert_allclose(np.diff(np.log(levels)), np.log(levels[-1] / levels[0]) / 4)


def test_radar_chart_is_closed() -> None:
    values = {"a": {"1": 1.0, "2": 10.0, "3": 100.0}}
    figure = plots.radar_charts({"A": values, "B": values})
    for ax in figure.axes:
        angles, radii = ax.lines[0].get_data()
        np.testing.assert_allclose(radii, [0, 1, 2, 0])
        np.testing.assert_allclose(angles, [0, 2 * np.pi / 3, 4 * np.pi / 3, 0])


def test_styles_differ() -> None:
    looks = {(look["color"], look["linestyle"]) for look in map(plots.style, range(28))}
    assert len(looks) == 28


def test_every_picture_can_be_drawn(tmp_path: Path) -> None:
    figure = plots.line_panels({"A": {}}, xlabel="x", ylabel="y")
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "empty.png")


def test_the_history_of_one_run_without_its_name() -> None:
    with pytest.raises(TypeError, match=r"plots.training_curves: expected the histories of runs by name, such as"):
        plots.training_curves({"epoch": [1], "cost": [0.5]})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"plots.training_curves: there are no histories; expected at least one run"):
        plots.training_curves({})
