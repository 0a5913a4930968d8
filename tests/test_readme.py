"""The README keeps its word: its example runs, its commands are those that CI runs, its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"))
def test_examples_run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    for line in re.findall(r"print\(.*\)  # (.*)$", code, flags=re.MULTILINE):
        assert line in shown


def test_ci_runs_the_test_command() -> None:
    _, test_command = (block for block in blocks("sh")[:2])
    assert test_command.strip() in (ROOT / ".ci/run").read_text()


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
