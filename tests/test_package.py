"""What the modules import and call, read from their source. Importing them changes no setting."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fnnet

ROOT = Path(fnnet.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
AUTODIFF = {"grad", "value_and_grad", "vjp", "jvp", "linearize", "jacfwd", "jacrev", "hessian", "linear_transpose"}
BY_HAND = [path for path in MODULES if "backprop" in path.parts and "check" not in path.parts]
BACKPROP = [*BY_HAND, ROOT / "cpu" / "in_place.py", ROOT / "cpu" / "patches.py", ROOT / "cpu" / "axes.py"]


def imports(source: str) -> set[str]:
    """Return the dotted names that a module imports, ``a.b`` for ``from a import b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def autodiff_in(source: str) -> set[str]:
    """Return the functions of jax for differentiation that a module mentions."""
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] == "jax"
    }
    imported = {name.rsplit(".", 1)[-1] for name in imports(source) if name.split(".")[0] == "jax"}
    return AUTODIFF & (attributes | imported)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


EXTRAS = {"plots": {"matplotlib"}, "data": {"PIL"}}  # what a package may need besides jax and numpy


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_jax_and_numpy(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(path.read_text())}
    extra = EXTRAS.get(package_of(path), set())
    assert packages - sys.stdlib_module_names <= {"jax", "numpy", "fnnet"} | extra


@pytest.mark.parametrize("path", BACKPROP, ids=name_of)
def test_backprop_is_by_hand(path: Path) -> None:
    assert autodiff_in(path.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import jax\njax.grad(f)",
        "from jax import vjp",
        "import jax\ng = jax.value_and_grad",
        "from jax import jvp as d",
    ],
)
def test_autodiff_is_found(source: str) -> None:
    assert autodiff_in(source)


FLOORS = [
    ["types"],
    [
        "binding",
        "configuration",
        "description",
        "extras",
        "paths",
        "shards",
        "cpu.compilation",
        "cpu.memory",
        "cpu.vectors",
        "cpu.permutation",
        "cpu.compilation",
    ],
    ["checks"],
    ["spectrum", "trees", "norms"],
    ["activations", "initializers", "penalties", "projections", "data"],
    ["losses", "convolution", "cpu.patches", "cpu.taps", "cpu.axes"],
    ["layers"],
    ["mistakes", "cost", "metrics", "exchange", "cpu.narrow"],
    ["backprop", "cpu.in_place"],
    ["optimizers"],
    ["training"],
    ["inspect"],
    ["diagnosis"],
    ["plots"],
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}


def package_of(path: Path) -> str:
    """Return the name under ``fnnet`` of a room of the house; in ``cpu`` each module has a floor of its own."""
    return ".".join(floor_of(path.relative_to(ROOT).with_suffix("").parts))


def floor_of(parts: tuple[str, ...]) -> tuple[str, ...]:
    return parts[: 2 if parts[:1] == ("cpu",) else 1]


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != ROOT or path.stem in FLOOR], ids=name_of)
def test_imports_run_down_only(path: Path) -> None:
    """``layers`` never imports ``backprop``, and so on for every floor."""
    here = package_of(path)
    for name in imports(path.read_text()):
        root, *parts = name.split(".")
        there = ".".join(floor_of(tuple(parts)))
        if root == "fnnet" and there != here:
            assert FLOOR[there] <= FLOOR[here], f"{here} imports {name}"
            assert not (FLOOR[there] == FLOOR[here] and FLOOR[here] == 0)


def test_every_public_name_exists() -> None:
    assert sorted(fnnet.__all__) == fnnet.__all__
    assert [name for name in fnnet.__all__ if not hasattr(fnnet, name)] == []


def test_importing_starts_no_backend_and_changes_no_setting() -> None:
    """The default precision stays that of jax, and no device is initialized before the first computation."""
    program = """
import jax
before = dict(jax.config.values)
import fnnet
from jax._src import xla_bridge
assert dict(jax.config.values) == before
assert not xla_bridge._backends, "a backend was started"
import sys
assert not {"optax", "flax", "matplotlib", "sklearn", "orbax", "safetensors", "tensorboardX"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
