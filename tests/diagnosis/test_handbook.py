"""The handbook of verdicts: every page has its parts, and its numbers are those of the table."""

import re

import pytest

from fnnet.diagnosis import THRESHOLDS
from fnnet.diagnosis.preflight import CHECKS, Check, name_of
from fnnet.diagnosis.report import EXPLANATIONS


def numbers_in(text: str) -> set[float]:
    found = {float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text.replace(",", ""))}
    return found | {1 / int(number) for number in re.findall(r"1/(\d+)", text)}


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_page_has_its_parts_and_the_thresholds_of_the_table(check: Check) -> None:
    page = check.__doc__ or ""
    for part in ("Formula", "Threshold", "When it is wrong: "):
        assert part in page, f"{name_of(check)} lacks {part}"
    own = {key: limit for key, limit in THRESHOLDS.items() if key.startswith(f"{name_of(check)}: ")}
    assert own, f"{name_of(check)} has no threshold"
    written = page[page.index("Threshold") : page.index("When it is wrong")]
    for key, limit in own.items():
        assert limit.value in numbers_in(written), f"{key} is {limit.value}, but the page says {written}"


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_verdict_has_its_place_among_causes_and_symptoms(check: Check) -> None:
    assert name_of(check) in EXPLANATIONS


def test_a_healthy_run_is_on_the_right_side_of_a_threshold() -> None:
    wrong = {key: limit for key, limit in THRESHOLDS.items() if limit.healthy[0] < limit.value < limit.healthy[1]}
    assert wrong == {}
