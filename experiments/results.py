"""The folder of results that an experiment writes, and the progress bar that it shows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.cli import ExperimentError

console = Console()


class Results:
    """The folder ``runs/NAME/DATE_TIME/`` with ``config.json``, ``metrics.jsonl``, figures and ``summary.md``.

    Every run makes a new folder and overwrites nothing.
    """

    def __init__(self, name: str, config: Any, root: Path = Path("runs")) -> None:
        self.name = name
        self.folder = new_folder(root / name)
        self.figures: list[str] = []
        about = {"experiment": name, "config": dataclasses.asdict(config), "jax": jax.__version__}
        about["device"] = jax.devices()[0].device_kind
        (self.folder / "config.json").write_text(json.dumps(about, indent=2, default=str) + "\n")

    def record(self, **values: Any) -> None:
        """Append the values as one line of JSON to ``metrics.jsonl``."""
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(values, default=str) + "\n")

    def figure(self, name: str, figure: Figure) -> None:
        """Save the figure as ``NAME.png``; ``summary`` will show it."""
        figure.savefig(self.folder / f"{name}.png", dpi=150)
        self.figures.append(name)

    def summary(self, text: str) -> None:
        """Write the text and then the figures to ``summary.md``, and print the path of the folder."""
        pictures = "\n\n".join(f"![{name}]({name}.png)" for name in self.figures)
        (self.folder / "summary.md").write_text(f"# {self.name}\n\n{text.strip()}\n\n{pictures}\n", encoding="utf-8")
        console.print(f"results in {self.folder}/", highlight=False)


def new_folder(parent: Path) -> Path:
    """Make a folder named after the current time and return it; a number is added if that name is taken."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    for attempt in range(1000):
        folder = parent / (f"{stamp}_{attempt}" if attempt else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ExperimentError(f"cannot make the results folder {folder}: {error}; choose another --runs") from error
        return folder
    raise ExperimentError(f"cannot find a free name for a results folder in {parent}; choose another --runs")


@contextmanager
def epoch_progress(label: str, epochs: int) -> Iterator[Callable[[Any, Mapping[str, float]], None]]:
    """Show a progress bar over epochs and yield the function of state and record that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=epochs, numbers="")

        def callback(state: Any, record: Mapping[str, float]) -> None:
            numbers = f"epoch {record['epoch']:.0f}/{epochs}  cost {record['cost']:.4f}"
            if "validation_accuracy" in record:
                numbers += f"  test accuracy {record['validation_accuracy']:.4f}"
            progress.update(task, advance=1, numbers=numbers)

        yield callback
