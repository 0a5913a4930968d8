"""Every public name is documented; ``.ci/run`` builds the pages."""

from types import ModuleType

import pytest

from tests.public import own_docstring, public_modules, public_names


def is_documented(docstring: str) -> bool:
    """Whether the first line is a whole sentence: it begins like one, ends with a full stop, and has some words."""
    first, *_ = docstring.strip().split("\n")
    begins = first[:1].isupper() or first.startswith("``")
    return begins and first.endswith(".") and len(first.split()) > 1


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module: ModuleType) -> None:
    names = public_names(module)
    assert names, f"{module.__name__} has no public names"
    lacking = {name: own_docstring(value) for name, value in names.items() if not is_documented(own_docstring(value))}
    assert lacking == {}, f"{module.__name__}: the first line of each docstring must be a whole sentence"
    assert is_documented(own_docstring(module))


@pytest.mark.parametrize(
    "docstring",
    ["", "Point(x, y)", "returns the sum.", "Return the sum of the squares of all the\nweights.", "Sum."],
    ids=["none", "made by dataclass", "small letter", "two lines", "one word"],
)
def test_what_is_no_sentence_is_found(docstring: str) -> None:
    assert not is_documented(docstring)


def test_an_inherited_docstring_is_none() -> None:
    class Parent:
        """Say something about the parent."""

    class Child(Parent):
        pass

    assert own_docstring(Parent) == "Say something about the parent."
    assert own_docstring(Child) == ""
