"""Imports point one way, Ray has its place, and modules hold no state."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("methods", "tasks", "backbones", "augmentations", "criteria")
"""Of entries that configuration chooses by name."""

LAYERS: tuple[tuple[str, ...], ...] = (
    ("trainables.*",),  # what has no place below: networks, losses, loading, checkpoint, …
    tuple(f"trainables.{package}" for package in PACKAGES),
    ("trainables.config",),
    ("trainables.accumulation", "trainables.measuring", "trainables.selection"),
    ("trainables.trial", "trainables.trained"),
    ("trainables.checks", "trainables.classifier"),
    ("trainables", "trainables.run", "trainables.predict", "trainables.ray_trainable"),
    (
        "study.tree",
        "study.entry",
        "study.yaml_file",
        "study.quiet",
        "study.environment",
        "study.keeper",
        "study.lease",
        "study.appended",
        "study.lines",
        "study.layout",
    ),
    ("study.notation",),
    ("study.space",),
    ("study.conditions", "study.samplers", "study.pruners"),
    ("study.config",),
    ("study.records",),
    ("study.search",),
    ("study.live_trial",),
    (
        "study.ranks",
        "study.agreement",
        "study.budget",
        "study.curves",
        "study.paired",
        "study.shared_records",
    ),
    ("study.finals", "study.pareto"),
    ("study.session", "study.placement"),
    ("study.mirror",),
    ("study.storage",),
    ("study.comparison",),
    ("study.published", "study.stored"),
    ("study.cards", "study.pictures", "study.tables"),
    ("study.report",),
    ("study.model_card",),
    ("study.*",),  # what has no place elsewhere: display, export, tensorboard, tuner, …
    ("study.html", "study.tabular"),
    ("study.launch", "study.compare", "study.submit"),
    ("study", "study.run"),
)
"""From the lowest to the highest. Modules import lower layers only; a package's, its base too."""

EXCEPTIONS = {
    # the second view is a weak augmentation, and then some
    ("trainables.augmentations.consistency", "trainables.augmentations.weak"),
    # commands that go through the table
    ("trainables.backbones.table", "trainables.backbones"),
    ("trainables.tasks.check", "trainables.tasks"),
}
"""Further imports: from a module or package, of a module or package."""

RAY = ("study.tuner", "study.ray_host", "study.submit", "trainables.ray_trainable", "cluster")
"""Who may name Ray."""

MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MAKERS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"}
CHANGES = {
    "add",
    "append",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "setdefault",
    "update",
    "sort",
    "reverse",
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    module_name(path): path
    for package in ("study", "trainables", "cluster")
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imports_of(name: str) -> Iterator[str]:
    """Everything that a module imports, also inside functions; modules rather than names."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


def within(name: str, whole: str) -> bool:
    return name == whole or name.startswith(f"{whole}.")


def layer_of(name: str) -> int:
    """The layer that names the module or its package, else the one of the rest."""
    for number, names in enumerate(LAYERS):
        if name in names or package_of(name) in names:
            return number
    return next(
        number for number, names in enumerate(LAYERS) if f"{name.split('.')[0]}.*" in names
    )


def package_of(name: str) -> str | None:
    packages = (f"trainables.{package}" for package in PACKAGES)
    return next((package for package in packages if within(name, package)), None)


def may_import(name: str, other: str) -> bool:
    if any(within(name, a) and within(other, b) for a, b in EXCEPTIONS):
        return True
    package = package_of(name)
    if package is not None and package == package_of(other):
        last = other.split(".")[-1]
        return name == package or (other != package and (last == "base" or last.startswith("_")))
    if layer_of(name) == layer_of(other):
        return layer_of(name) == 0 or name in ("trainables", "study")
    return layer_of(other) < layer_of(name)


OWN = {
    name: sorted({other for other in imports_of(name) if other in FILES})
    for name in FILES
    if not within(name, "cluster")
}


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in OWN.items()
        for other in others
        if not may_import(name, other)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "name, other",
    [
        ("trainables.methods.dann", "trainables.methods.mcd"),
        ("trainables.methods.dann", "trainables.methods"),
        ("trainables.methods.dann", "trainables.tasks"),
        ("trainables.methods.base", "trainables.config"),
        ("trainables.criteria.bnm", "trainables.augmentations"),
        ("trainables.networks", "trainables.methods.base"),
        ("trainables.config", "trainables.trial"),
        ("trainables.measuring", "trainables.trial"),
        ("trainables.trial", "trainables.ray_trainable"),
        ("trainables.trial", "study.records"),
        ("study.search", "study.session"),
        ("study.comparison", "study.report"),
        ("study.display", "study.tensorboard"),
    ],
)
def test_the_rule_forbids(name: str, other: str) -> None:
    """Else the test above would say nothing."""
    assert name in FILES and other in FILES
    assert not may_import(name, other)


def test_no_module_imports_itself_by_way_of_others() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' → '.join((*path, name))}"
        if name not in done:
            for other in OWN[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in OWN:
        visit(name, ())


def test_exceptions_are_needed() -> None:
    unused = {
        (a, b)
        for a, b in EXCEPTIONS
        if not any(
            within(name, a) and within(other, b)
            for name, others in OWN.items()
            for other in others
        )
    }
    assert unused == set()


def test_ray_is_named_only_in_its_place() -> None:
    naming = {name for name in FILES if any(within(other, "ray") for other in imports_of(name))}
    assert {name for name in naming if not any(within(name, place) for place in RAY)} == set()
    assert {"study.tuner", "trainables.ray_trainable"} <= naming


def test_trainables_know_nothing_of_searching() -> None:
    strangers = {
        (name, other)
        for name in FILES
        if within(name, "trainables")
        for other in imports_of(name)
        if other.split(".")[0] in ("study", "optuna")
    }
    assert strangers == set()


# Without Ray


SCRIPT = """
import json, sys
from pathlib import Path

def loaded(*packages):
    return sorted(name for name in sys.modules if name.split(".")[0] in packages)

import trainables.run
from trainables import read_trial_config, run_trial
out, cache = map(Path, sys.argv[1:])
reports = list(run_trial(read_trial_config(out / "given.yaml"), out / "trial", cache))
trial = loaded("ray", "optuna", "study")
from study.run import main
code = main(["--list"])
print(json.dumps([reports[-1].finished, trial, code, loaded("ray")]))
"""


def test_trials_and_commands_do_without_ray(tmp_path: Path, digits_cache: Path) -> None:
    (tmp_path / "given.yaml").write_text(
        yaml.safe_dump(
            {
                "task": {"digits": {"num_source": 200, "num_test": 40}},
                "backbone": {"small_cnn": {"width": 4}},
                "method": "dann",
                "schedule": {"num_epochs": None, "num_steps": 1},
                "evaluation": {"max_images": 40, "test": True},
            }
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(digits_cache)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [True, [], 0, []]


# State


def is_table(name: str) -> bool:
    return name.isupper() or name == "__all__"


def is_mutable(value: ast.expr | None) -> bool:
    called = value.func if isinstance(value, ast.Call) else None
    called = called.value if isinstance(called, ast.Subscript) else called
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    return isinstance(value, MUTABLE) or name in MAKERS


def test_modules_hold_nothing_that_changes_but_tables() -> None:
    found = []
    for module, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and is_mutable(node.value):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found += [
                    f"{module}.{ast.unparse(target)}"
                    for target in targets
                    if not is_table(ast.unparse(target))
                ]
    assert found == []


def is_table_reference(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.isupper() and len(name) > 1


def changes_a_table(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return is_table_reference(node.value) and not isinstance(node.ctx, ast.Load)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CHANGES
        and is_table_reference(node.func.value)
    )


def test_tables_are_not_changed() -> None:
    found = [
        f"{module}:{getattr(node, 'lineno', 0)}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if changes_a_table(node)
    ]
    assert found == []


def test_no_function_keeps_results_or_sets_globals() -> None:
    found = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                found.append(f"{module}:{node.lineno}: global")
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found += [
                    f"{module}:{node.lineno}: {ast.unparse(decorator)}"
                    for decorator in node.decorator_list
                    if "cache" in ast.unparse(decorator)
                    and ast.unparse(decorator) != "cached_property"
                ]  # of an object
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "state = {}",
        "state: dict[str, int] = {}",
        "state = defaultdict(list)",
        "seen = set[int]()",
        "names = [x for x in y]",
    ],
)
def test_mutable_state_is_recognised(code: str) -> None:
    node = ast.parse(code).body[0]
    assert isinstance(node, (ast.Assign, ast.AnnAssign)) and is_mutable(node.value)


@pytest.mark.parametrize(
    "code",
    [
        "METHODS['x'] = y",
        "del METHODS['x']",
        "methods.METHODS.update(x)",
        "METHODS.pop('x')",
    ],
)
def test_changes_of_tables_are_recognised(code: str) -> None:
    assert any(changes_a_table(node) for node in ast.walk(ast.parse(code)))


def test_every_layer_has_modules() -> None:
    assert {layer_of(name) for name in OWN} == set(range(len(LAYERS)))
