"""The handbook of verdicts: every page has its parts, and its numbers are those of the table."""

import re

import pytest

from fnnet.diagnosis import THRESHOLDS
from fnnet.diagnosis.diagnose import CHECKS as AFTER
from fnnet.diagnosis.preflight import CHECKS as BEFORE
from fnnet.diagnosis.report import EXPLANATIONS

CHECKS = BEFORE | AFTER


def numbers_in(text: str) -> set[float]:
    found = {float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text.replace(",", ""))}
    return found | {1 / int(number) for number in re.findall(r"1/(\d+)", text)}


@pytest.mark.parametrize("name", CHECKS)
def test_a_page_has_its_parts_and_the_thresholds_of_the_table(name: str) -> None:
    page = CHECKS[name].__doc__ or ""
    for part in ("Statistic", "Threshold", "When it is wrong: "):
        assert part in page, f"{name} lacks {part}"
    own = {key: limit for key, limit in THRESHOLDS.items() if key.startswith(f"{name}: ")}
    assert own, f"{name} has no threshold"
    written = page[page.index("Statistic") : page.index("When it is wrong")]
    for key, limit in own.items():
        assert limit.value in numbers_in(written), f"{key} is {limit.value}, but the page says {written}"


def test_a_verdict_has_its_place_among_causes_and_symptoms() -> None:
    assert set(CHECKS) == set(EXPLANATIONS)
    assert all(set(symptoms) <= set(EXPLANATIONS) for symptoms in EXPLANATIONS.values())


def test_every_threshold_is_of_a_verdict_or_of_the_reruns() -> None:
    names = (*CHECKS, "rerun")
    assert [key for key in THRESHOLDS if not any(key.startswith(f"{name}: ") for name in names)] == []


def test_a_healthy_run_is_on_the_right_side_of_a_threshold() -> None:
    ranges = {key: limit for key, limit in THRESHOLDS.items() if limit.healthy is not None}
    assert {key: limit for key, limit in ranges.items() if limit.healthy[0] < limit.value < limit.healthy[1]} == {}
