"""Run an experiment from the command line, and read the files that it writes."""

import json
from pathlib import Path
from typing import Any

from experiments.__main__ import EXPERIMENTS
from experiments.cli import main


def command_line(*arguments: str) -> int:
    return main("python -m experiments", EXPERIMENTS, default="digits", arguments=arguments)


def only_folder(path: Path) -> Path:
    (folder,) = path.iterdir()
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
