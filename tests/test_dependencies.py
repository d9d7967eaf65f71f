"""What is imported is declared in setup.cfg, and what is declared has its version pinned."""

import ast
import configparser
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

EXTRAS: dict[str, tuple[str, ...]] = {
    "study": (),
    "study/jobs": ("cluster",),
    "trainables": (),
    "search_spaces": (),
    "cluster": ("cluster",),
    "benchmarks": ("test",),
    "tests": ("test",),
}
"""Folders, and the extras that are installed where their modules are imported."""


def requirements(text: str) -> set[str]:
    """Names of packages, one requirement a line."""
    return {
        canonicalize_name(Requirement(line).name)
        for line in text.splitlines()
        if line and not line.startswith("#")
    }


def declared() -> dict[str, set[str]]:
    """Names of packages by extra; what is always installed has no extra, ``""``."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return {
        "": requirements(setup["options"]["install_requires"]),
        **{extra: requirements(text) for extra, text in setup["options.extras_require"].items()},
    }


def imported(source: str) -> Iterator[tuple[str, int]]:
    """The topmost packages of a module's imports, those inside functions too, and their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], node.lineno


def undeclared(
    source: str, allowed: set[str], distributions: dict[str, list[str]]
) -> Iterator[tuple[str, int]]:
    """Imports of packages that are not allowed.

    One that is not installed is taken for its own distribution.
    """
    for name, line in imported(source):
        if name in sys.stdlib_module_names or (ROOT / name).is_dir():
            continue
        names = distributions.get(name, [name])
        if not allowed & {canonicalize_name(one) for one in names}:
            yield name, line


def modules(folder: str) -> list[Path]:
    """A folder's modules, but for those in folders that have their own line in ``EXTRAS``."""
    others = [ROOT / other for other in EXTRAS if other.startswith(f"{folder}/")]
    return [
        path
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(other) for other in others)
    ]


@pytest.mark.parametrize("folder", EXTRAS)
def test_imported_packages_are_declared(folder: str) -> None:
    packages = declared()
    allowed = packages[""].union(*(packages[extra] for extra in EXTRAS[folder]))
    distributions = {name: list(found) for name, found in packages_distributions().items()}
    assert [
        f"{path.relative_to(ROOT)}:{line} imports {name}, which setup.cfg does not declare"
        for path in modules(folder)
        for name, line in undeclared(path.read_text(), allowed, distributions)
    ] == []


def test_undeclared_imports_are_found() -> None:
    source = "import os, yaml.nodes\nfrom . import near\ndef f():\n    from PIL import Image\n"
    distributions = {"yaml": ["PyYAML"], "PIL": ["pillow"]}
    assert list(undeclared(source, {"pyyaml"}, distributions)) == [("PIL", 4)]
    assert list(undeclared(source, {"pillow"}, distributions)) == [("yaml", 1)]
    assert list(undeclared("import study, not_installed", {"not-installed"}, {})) == []


def test_all_folders_of_modules_are_looked_at() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found <= set(EXTRAS)


def test_tests_have_what_clusters_need() -> None:
    packages = declared()
    assert packages["cluster"] <= packages["test"]


def test_declared_packages_are_pinned() -> None:
    pinned = requirements((ROOT / "constraints.txt").read_text())
    assert set().union(*declared().values()) - pinned == set()
