"""The examples of both READMEs run and print what is shown; commands, links and the map of the house are true."""

import re
from pathlib import Path

import pytest

from experiments.__main__ import EXPERIMENTS
from fnnet.backprop import RULES

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "experiments/README.md")
# Zero, and numbers below 1e-7: rounding errors, which differ from one processor to another.
ROUNDING = re.compile(r"0\.00e\+00|\d(\.\d+)?e-(0[89]|[1-9]\d)")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE)


def examples(page: str) -> list[tuple[str, str]]:
    """Return each Python block of a page with the ``text`` block that follows it, which is what it prints."""
    pattern = r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```"
    return re.findall(pattern, text_of(page), flags=re.DOTALL | re.MULTILINE)


EXAMPLES = [example for page in PAGES for example in examples(page)]


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=map(str, range(len(EXAMPLES))))
def test_examples_print_what_is_shown(code: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    registered = set(RULES)
    try:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    finally:
        for new in set(RULES) - registered:  # rules that the example adds, which other tests must not see
            del RULES[new]
    assert ROUNDING.sub("~", capsys.readouterr().out) == ROUNDING.sub("~", shown)


def test_every_python_block_shows_its_output() -> None:
    assert len(EXAMPLES) == sum(len(blocks(page, "python")) for page in PAGES) > 0


def test_ci_runs_the_test_command() -> None:
    _, test_command, *_ = blocks("README.md", "sh")
    assert test_command.strip() in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text_of(page))
    assert targets
    for target in targets:
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_links_within_a_page_lead_to_headings(page: str) -> None:
    for other, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text_of(page)):
        target = ((ROOT / page).parent / other) if other else ROOT / page
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


def test_the_map_of_the_house_is_true() -> None:
    (house,) = (block for block in blocks("README.md", "text") if block.startswith("fnnet/"))
    for line in house.splitlines():
        assert (ROOT / line.split()[0]).exists(), line


def test_every_experiment_has_a_question_an_answer_and_a_command() -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", text_of("experiments/README.md"), re.DOTALL | re.MULTILINE))
    for name in EXPERIMENTS:
        for wanted in ("**Question.**", "**Answer.**", f"python -m experiments {name}"):
            assert wanted in sections[name], name
