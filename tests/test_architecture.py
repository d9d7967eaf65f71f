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

TABLES = ("augmentations", "backbones", "criteria", "methods", "tasks")
"""Packages of entries that configuration chooses by name."""

LAYERS: tuple[tuple[str, ...], ...] = (
    ("trainables.configuration",),
    ("trainables.runtime",),
    ("trainables.checkpointing",),
    ("trainables.data",),
    ("trainables.nn",),
    tuple(f"trainables.{table}" for table in TABLES),
    ("trainables.trial_config",),
    ("trainables.training",),
    ("trainables.inference",),
    ("trainables",),  # commands, and what Ray is handed
    ("study.storage",),
    ("study.spaces",),
    ("study.search",),
    ("study.config",),
    ("study.trials",),
    ("study.session",),
    ("study.analysis",),
    ("study.reporting",),
    ("study.execution",),
    ("study.jobs",),
    ("study",),  # commands
)
"""From the lowest to the highest. A module imports lower layers and its own package. The two
topmost of each tree are its modules that are in no package; they do not import one another."""

EXCEPTIONS = {
    # the second view is a weak augmentation, and then some
    ("trainables.augmentations.consistency", "trainables.augmentations.weak"),
    # commands that go through the table
    ("trainables.backbones.table", "trainables.backbones"),
    ("trainables.tasks.check", "trainables.tasks"),
}
"""Further imports: from a module or package, of a module or package."""

RAY = ("study.execution", "study.jobs", "trainables.ray_trainable", "cluster")
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
    """The layer that names the module's package, else that of the tree's own modules."""
    for number, names in enumerate(LAYERS):
        if any("." in package and within(name, package) for package in names):
            return number
    return LAYERS.index((name.split(".")[0],))


def package_of(name: str) -> str:
    """The package below the tree's root that a module is in; itself if it is in none."""
    return ".".join(name.split(".")[:2])


def table_of(name: str) -> str | None:
    tables = (f"trainables.{table}" for table in TABLES)
    return next((table for table in tables if within(name, table)), None)


def may_import(name: str, other: str) -> bool:
    if any(within(name, a) and within(other, b) for a, b in EXCEPTIONS):
        return True
    table = table_of(name)
    if table is not None and table == table_of(other):
        return within(other, name) or is_shared_by_entries(other, table)
    if layer_of(name) == layer_of(other):
        return table is None and (
            name in ("trainables", "study") or package_of(name) == package_of(other)
        )
    return layer_of(other) < layer_of(name)


def is_shared_by_entries(name: str, table: str) -> bool:
    """Whether entries may import it: the table's base, and modules of its own."""
    last = name.split(".")[-1]
    return name != table and (last == "base" or last.startswith("_"))


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
        ("trainables.methods.base", "trainables.trial_config"),
        ("trainables.criteria.bnm", "trainables.augmentations"),
        ("trainables.nn.networks", "trainables.methods.base"),
        ("trainables.trial_config", "trainables.training.trial"),
        ("trainables.data.loading", "trainables.nn.networks"),
        ("trainables.tasks.published.s2rda49", "trainables.tasks.folders"),
        ("trainables.training.trial", "trainables.ray_trainable"),
        ("trainables.training.trial", "study.trials.records"),
        ("study.session.ask_tell", "study.analysis.comparison"),
        ("study.analysis.comparison", "study.reporting.summary"),
        ("study.reporting.progress", "study.execution.tuner"),
        ("study.run", "study.compare"),
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
    assert {"study.execution.tuner", "study.jobs.submit", "trainables.ray_trainable"} <= naming


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
