"""Every command in the READMEs, CONTRIBUTING and docs/ is run, or says here why not.

A command that is documented and not in :data:`TABLE` fails, and so does one that is in it and
documented nowhere. Commands run in a folder of their own, where the files that the pages speak of
are; sizes are small.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml

from study.config.reading import parse_studies
from tests.support.image_files import write_image, write_tree
from tests.support.studies import overrides, run_without_ray
from trainables.configuration.yaml_file import read_yaml

pytestmark = [
    pytest.mark.slow,
    # `python -m` runs modules that this process has imported
    pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning"),
]

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cluster" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PROGRAM = re.compile(
    r"(?:\w+=\S+ )*(?:\.venv/bin/)?(?:make|optuna-dashboard|pip|python|ray|tensorboard|torchrun) "
)
"""How commands begin, also in the middle of a sentence."""
SMALL = overrides(
    task="{digits: {num_source: 200, num_test: 20}}",
    num_trials=2,
    final_seeds=1,
    fixed__backbone="{small_cnn: {width: 4, feature_dim: 16}}",
    fixed__initialization="none",
    fixed__selection__source_accuracy_floor=0.0,
)
"""Changes of a space on digits."""
SMALL_PHOTOS = overrides(
    task="{folders: {source: data/renders, target: data/photos, image_size: 16}}",
    num_trials=1,
    fixed__backbone="{small_cnn: {width: 4, feature_dim: 16}}",
    fixed__initialization="none",
    fixed__schedule__num_epochs=1,
    fixed__loader_workers=0,
    final_seeds=1,
    search__method="{choice: {no_adaptation: {}}}",
    fixed__batch_size=4,
)
"""Changes of the space ``photos.yaml``: among others, its backbone's weights are a download."""


@dataclass(frozen=True)
class Run:
    """A command that is run in this process."""

    expected: str
    """In what it prints."""
    instead: str = ""
    """What is run, where the documented command has a placeholder or starts something long."""
    needs: tuple[str, ...] = ()
    """Documented commands that come before it."""
    more: list[str] = field(default_factory=list)
    """Further arguments."""


@dataclass(frozen=True)
class Ray(Run):
    """A study that runs as it does for users, in processes of its own."""


@dataclass(frozen=True)
class Trials(Run):
    """A study whose trials run one after another in this process, without Ray."""


@dataclass(frozen=True)
class Shell(Run):
    """A command that is typed into a shell, with the project's environment active."""


@dataclass(frozen=True)
class Make:
    """A target whose recipe is looked at: it would install all there is."""

    expected: str


@dataclass(frozen=True)
class Elsewhere:
    """A command that is not run here."""

    reason: str


Entry = Run | Make | Elsewhere

FIRST = "python -m study.run --space first.yaml"
PHOTOS = "python -m study.run --space photos.yaml"
DIGIT_MODEL = "python -m study.export runs/first --out digit-model"
PHOTO_MODEL = "python -m study.export runs/photos --out photo-model"
TABLE: dict[str, Entry] = {
    # README
    "make study": Make(".venv/bin/python -m study.run --space digits"),
    "make test": Make(".venv/bin/python -m pytest"),
    "python -m study.run --space digits": Run(
        "at most 24 trials × 4 epochs", more=["--dry-run"]
    ),  # FIRST is run in full
    "python -m study.run --list": Run("digits_search"),
    "python -m study.run --space FILE --dry-run": Run(
        "Nothing was run.", "python -m study.run --space first.yaml --dry-run"
    ),
    "python -m study.run --space FILE --trials 64 --set fixed.schedule.num_epochs=10": Run(
        "at most 64 trials × 10 epochs",
        "python -m study.run --space first.yaml --trials 64 "
        "--set fixed.schedule.num_epochs=10 --dry-run",
    ),
    "python -m study.run --space s2rda49 --data DIR": Run(
        "at most 6 trials × 20 epochs", more=["--dry-run"]
    ),
    "python -m study.run --space FILE --time 2h --budget-epochs 500": Run(
        "Nothing was run.",
        "python -m study.run --space first.yaml --time 2h --budget-epochs 500 --dry-run",
    ),
    "python -m study.run --space FILE --warm-start runs/digits": Elsewhere(
        "a second study by Ray; test_warm_start.py runs what it does"
    ),
    "python -m study.run --space FILE --resume": Run(
        "Final runs on 1 fresh seeds", f"{FIRST} --resume", (FIRST,), SMALL
    ),
    "python -m study.run --space s2rda49 --storage s3://BUCKET/runs": Elsewhere(
        "needs a bucket; test_storage_end_to_end.py has one"
    ),
    "python -m study.run --space s2rda49 --cluster --storage s3://BUCKET/runs": Elsewhere(
        "needs machines; test_submit.py submits a study, cluster_e2e opens tunnels"
    ),
    "tensorboard --logdir runs/digits/tensorboard": Elsewhere(
        "serves pages until it is stopped; test_tensorboard_page.py opens them"
    ),
    "python -m trainables.run --record runs/digits/records.jsonl --trial 0007": Run(
        "bit-equal",
        "python -m trainables.run --record runs/first/records.jsonl --trial 0001",
        (FIRST,),
    ),
    "python -m study.export runs/digits": Run(
        "runs/first/export", "python -m study.export runs/first", (FIRST,)
    ),
    "python -m trainables.predict runs/digits/export IMAGES --csv FILE": Run(
        "",
        "python -m trainables.predict runs/first/export scans --csv digits.csv",
        ("python -m study.export runs/digits",),
    ),
    "python -m study.compare runs/digits --format html": Run(
        "comparison.html", "python -m study.compare runs/first --format html", (FIRST,)
    ),
    # CONTRIBUTING
    'make test ARGS="tests/study/trials/test_ranking.py -k winners"': Make(
        "-m pytest -n 2 tests/study/trials/test_ranking.py -k winners"
    ),
    "make check": Make('.venv/bin/python -m pytest -n 2 -m "not slow and not cluster"'),
    "make help": Make("sed "),
    "make cluster-test": Make("python -m pytest -m cluster -rs tests/cluster tests/cluster_e2e"),
    # docs/tutorial.md
    "make .venv/installed": Make("pip"),
    "source .venv/bin/activate": Elsewhere("changes the shell that it is typed into"),
    "python -m study.run --space first.yaml --dry-run": Run("at most 6 trials × 2 epochs"),
    "python -m study.schema > space.schema.json": Run(""),
    FIRST: Ray("Final runs on 1 fresh seeds", more=SMALL),
    "tensorboard --logdir runs/first/tensorboard": Elsewhere(
        "serves pages until it is stopped; test_tensorboard_page.py opens them"
    ),
    "python -m study.embed runs/first": Run("runs/first/embedding-mcd.png", needs=(FIRST,)),
    "python -m trainables.run --record runs/first/records.jsonl --trial final-mcd-seed1 "
    "--out again": Run("bit-equal", needs=(FIRST,)),
    DIGIT_MODEL: Run("digit-model", needs=(FIRST,)),
    "python -m trainables.predict digit-model scans": Run(
        "scans/00-is-0.png", needs=(DIGIT_MODEL,)
    ),
    # docs/comparing.md
    "python -m study.compare runs/first": Run("Final runs on 1 fresh seeds", needs=(FIRST,)),
    "python -m study.compare runs/digits runs/s2rda49 --published": Run(
        "The paper has no figures", "python -m study.compare runs/first --published", (FIRST,)
    ),
    "python -m study.compare runs/first --format html": Run("comparison.html", needs=(FIRST,)),
    **{
        f"python -m study.compare runs/first --format {form} --out comparison.{suffix}": Run(
            "", needs=(FIRST,)
        )
        for form, suffix in (("csv", "csv"), ("json", "json"), ("latex", "tex"))
    },
    "optuna-dashboard runs/first/optuna.journal": Elsewhere(
        "serves pages until it is stopped; test_dashboard.py asks it for the trials"
    ),
    # docs/criteria.md
    "python -m benchmarks.criteria_trust": Run("Chosen on seeds 1 to 8"),
    # docs/howto-own-images.md
    "python -m study.run --space photos.yaml --dry-run": Run("at most 24 trials × 10 epochs"),
    PHOTOS: Ray("final-no_adaptation-seed1", more=SMALL_PHOTOS),
    PHOTO_MODEL: Run("photo-model", needs=(PHOTOS,)),
    "python -m trainables.predict photo-model data/photos --csv classes.csv": Run(
        "", needs=(PHOTO_MODEL,)
    ),
    # docs/howto-own-method.md
    "pip install pytest": Elsewhere("`make test` installs it"),
    'PYTHONPATH="$VIRTUAL_ENV/.." python -m pytest mypackage': Shell(" passed"),
    "python -m trainables.run --config own.yaml --out runs/own": Run("loss/entropy"),
    "python -m study.run --space own-study.yaml --dry-run": Run("EntropyMinimization"),
    "python -m study.run --space own-study.yaml": Trials(
        "final-mypackage.mymethod.EntropyMinimization-seed1", more=SMALL
    ),
    # docs/howto-own-task.md
    "python -m trainables.run --config own-entries.yaml --out runs/own-entries": Run(
        "training epoch 2/2"
    ),
    # docs/howto-storage.md
    **{
        f"python -m study.run --space FILE --storage {place}": Elsewhere(
            "test_storage_end_to_end.py runs such studies"
        )
        for place in ("/shared/runs", "s3://bucket/runs", "s3://bucket/runs --resume")
    },
    "python -m study.compare s3://bucket/runs/digits": Elsewhere(
        "test_storage_end_to_end.py reads a bucket"
    ),
    "tensorboard --logdir s3://bucket/runs/digits/tensorboard": Elsewhere(
        "serves pages until it is stopped; test_storage_end_to_end.py has it read a bucket"
    ),
    # docs/reference.md, docs/backbones.md
    "python -m study.reference > docs/reference.md": Run(""),
    "python -m trainables.run --config FILE": Run(
        "training epoch 2/2", "python -m trainables.run --config own.yaml --out runs/own"
    ),
    "python -m trainables.backbones.table > docs/backbones.md": Run(""),
    # docs/scaling.md
    "python -m benchmarks.scale": Elsewhere(
        "ten thousand trials by Ray; test_scale_benchmark.py runs a few without it"
    ),
    "python -m benchmarks.scale --alone": Run(
        "bytes a trial", "python -m benchmarks.scale --alone --trials 5"
    ),
    **{
        f"python -m benchmarks.scale --{options} --trials 2000": Elsewhere(
            "two thousand trials by Ray; test_scale_benchmark.py runs a few without it"
        )
        for options in ("sampler tpe", "snapshots")
    },
    "python -m benchmarks.scale --alone --space s2rda_search --concurrency 64": Run(
        "24 trials", "python -m benchmarks.scale --alone --space s2rda_search --trials 6"
    ),
    "python -m benchmarks.checkpoints": Run(
        "disclusterda", "python -m benchmarks.checkpoints --backbone small_cnn --classes 2"
    ),
    # cluster/README.md
    "pip install --constraint constraints.txt --editable '.[cluster]'": Elsewhere(
        "`make test` installs more"
    ),
    "pip install s3fs": Elsewhere("`make test` installs it"),
    "python -m cluster.check cluster/cluster.yaml": Elsewhere(
        "finds what is to be filled in; test_check.py runs it on whole and on broken files"
    ),
    "python -m cluster.check cluster/cluster.yaml && ray up cluster/cluster.yaml": Elsewhere(
        "cluster_e2e/test_on_aws.py runs both"
    ),
    **{
        command: Elsewhere(f"needs machines; {test} has some")
        for command, test in {
            "ray up": "cluster_e2e/test_on_aws.py",
            "ray up cluster/cluster.yaml": "cluster_e2e/test_on_aws.py",
            "ray down": "cluster_e2e/test_on_aws.py",
            "ray down cluster/cluster.yaml": "cluster_e2e/test_on_aws.py",
            "RAY_UP_enable_autoscaler_v2=0 ray up "
            "cluster/onprem.yaml": "cluster_e2e/test_by_ssh.py",
            "python -m study.run --space s2rda49 --cluster cluster/cluster.yaml --storage "
            "s3://my-studies/runs": "cluster_e2e/test_on_aws.py",
            "ray dashboard cluster/cluster.yaml": "cluster_e2e/test_on_aws.py",
            "ray job stop JOB": "test_submit.py",
        }.items()
    },
    "ray get-auth-token --generate > /dev/null; chmod 600 ~/.ray/auth_token": Elsewhere(
        "makes a token; cluster_e2e/test_by_ssh.py does"
    ),
    **{
        command: Elsewhere("Ray's own, for a cluster that runs; not tested")
        for command in (
            "ray job list",
            "ray attach cluster/cluster.yaml --port-forward 6006",
            "ray exec cluster/cluster.yaml 'ray status'",
            "ray monitor cluster/cluster.yaml",
            "ray monitor …",
            "ray exec cluster/cluster.yaml 'tail -n 100 /tmp/ray/session_latest/logs/*.err'",
        )
    },
    **{
        f"tensorboard --logdir {place}": Elsewhere(
            "serves pages until it is stopped; test_storage_end_to_end.py has it read a bucket"
        )
        for place in ("s3://my-studies/runs/s2rda49/tensorboard", "…")
    },
}


# What is documented


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of code blocks."""
    for language, content in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.M | re.S):
        yield language, textwrap.dedent(content)


def commands(text: str) -> Iterator[str]:
    """The commands of a page: lines of shell blocks, and code that begins as a command does."""
    for language, content in blocks(text):
        if language in ("", "sh"):
            for line in content.replace("\\\n", " ").splitlines():
                one = " ".join(line.split())
                if one and (language == "sh" or PROGRAM.match(f"{one} ")):
                    yield one
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    for code in re.findall(r"`([^`]+)`", outside):
        one = " ".join(code.split())
        if PROGRAM.match(one):
            yield one


DOCUMENTED = {
    command: page.name for page in reversed(PAGES) for command in commands(page.read_text())
}


def block(page: str, language: str, beginning: str) -> str:
    """A page's code block whose first line starts so."""
    found = [
        content
        for kind, content in blocks((ROOT / page).read_text())
        if kind == language and content.startswith(beginning)
    ]
    assert len(found) == 1, f"{page} has {len(found)} blocks that begin with {beginning}"
    return found[0]


def test_commands_are_found() -> None:
    page = (
        "Type `make study`, or\n`python -m\nx` but not `method: mcd`.\n```sh\necho a \\\n  b\n"
        "```\n```\n$ no\npython -m y\n```\n```yaml\n#   python -m z\n```\n"
    )
    assert sorted(commands(page)) == ["echo a b", "make study", "python -m x", "python -m y"]


def test_every_documented_command_is_in_the_table() -> None:
    assert {command: page for command, page in DOCUMENTED.items() if command not in TABLE} == {}


def test_every_command_of_the_table_is_documented() -> None:
    assert TABLE.keys() - DOCUMENTED.keys() == set()


# Running it


class Workspace:
    """A user's folder: the files that the pages have one write, and what commands leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, str] = {}
        (folder / "docs").mkdir()
        (folder / "mypackage").mkdir()
        for name, page, language, beginning in (
            ("first.yaml", "docs/tutorial.md", "yaml", "# Does MCD"),
            ("photos.yaml", "docs/howto-own-images.md", "yaml", "# photos.yaml"),
            ("own.yaml", "docs/howto-own-method.md", "yaml", "# own.yaml"),
            ("own-study.yaml", "docs/howto-own-method.md", "yaml", "# own-study.yaml"),
            ("mypackage/__init__.py", "CONTRIBUTING.md", "", ""),
            ("mypackage/mymethod.py", "CONTRIBUTING.md", "python", "# mypackage/mymethod.py"),
            *(
                (name, page, "python", f"# {name}")
                for page, names in (
                    ("docs/howto-own-method.md", ["test_mymethod"]),
                    ("docs/howto-own-task.md", ["bars", "noise", "patches", "test_entries"]),
                    ("docs/criteria.md", ["mycriterion", "test_mycriterion"]),
                )
                for name in (f"mypackage/{module}.py" for module in names)
            ),
            ("own-entries.yaml", "docs/howto-own-task.md", "yaml", "# own-entries.yaml"),
            ("scans.py", "docs/tutorial.md", "python", "from pathlib"),
        ):
            (folder / name).write_text(block(page, language, beginning) if language else "")
        write_tree(folder / "data" / "renders", {"bus": 6, "car": 6})
        for number in range(5):
            write_image(folder / "data" / "photos" / f"{number}.jpg", 100 + number)
        self._python("scans.py")

    def _python(self, file: str) -> None:
        with contextlib.chdir(self.folder):
            runpy.run_path(file)

    def output(self, command: str) -> str:
        """What a documented command prints; it and what it needs run once."""
        if command not in self.outputs:
            entry = TABLE[command]
            assert isinstance(entry, Run)
            for earlier in entry.needs:
                self.output(earlier)
            words = [*shlex.split(entry.instead or command), *entry.more]
            with contextlib.chdir(self.folder):
                self.outputs[command] = _run(entry, command, words)
        return self.outputs[command]


def _run(entry: Run, command: str, words: list[str]) -> str:
    if isinstance(entry, Shell):
        # any folder of the copy stands for its .venv, which need not be inside where tests run
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", entry.instead or command],
            capture_output=True,
            text=True,
            env={**os.environ, "VIRTUAL_ENV": str(ROOT / "tests"), "PATH": path},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    if isinstance(entry, Ray):
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
    if isinstance(entry, Trials):
        assert words[:4] == ["python", "-m", "study.run", "--space"]
        space = Path(words[4])
        records = run_without_ray(Path("runs"), space.stem, *words[5:], space=space)
        return "\n".join(f"{record.id} {record.outcome}" for record in records)
    return _run_here(words)


def _run_here(words: list[str]) -> str:
    assert words[:2] == ["python", "-m"]
    words, target = (words[:-2], words[-1]) if ">" in words else (words, None)
    printed = io.StringIO()
    threads, arguments = torch.get_num_threads(), sys.argv
    sys.argv = words[2:]
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert end.code == 0, printed.getvalue()  # noqa: PT017 - it may also not be raised
    finally:
        sys.argv = arguments
        torch.set_num_threads(threads)
    if target is not None:
        Path(target).write_text(printed.getvalue())
    return printed.getvalue()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("COLUMNS", "200")
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield Workspace(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "mypackage"]:
        del sys.modules[name]


@pytest.mark.parametrize("command", [c for c, entry in TABLE.items() if isinstance(entry, Run)])
def test_command_runs(workspace: Workspace, command: str) -> None:
    entry = TABLE[command]
    assert isinstance(entry, Run)
    assert entry.expected in workspace.output(command)


@pytest.mark.parametrize("command", [c for c, entry in TABLE.items() if isinstance(entry, Make)])
def test_make_target_has_its_recipe(command: str) -> None:
    entry = TABLE[command]
    assert isinstance(entry, Make)
    program, *arguments = shlex.split(command)
    done = subprocess.run(
        [program, "--dry-run", "--always-make", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0 and entry.expected in done.stdout


def test_files_that_commands_write_are_there(workspace: Workspace) -> None:
    workspace.output("python -m trainables.predict photo-model data/photos --csv classes.csv")
    rows = (workspace.folder / "classes.csv").read_text().splitlines()
    assert rows[0] == "image,class,probability" and len(rows) == 6
    for name in ("reference", "backbones"):
        (command,) = (c for c in TABLE if c.endswith(f"> docs/{name}.md"))
        workspace.output(command)
        written = workspace.folder / "docs" / f"{name}.md"
        assert written.read_text() == (ROOT / "docs" / f"{name}.md").read_text()


SPACES = [
    (page.name, content)
    for page in PAGES
    for language, content in blocks(page.read_text())
    if language == "yaml" and "\nsearch:" in f"\n{content}"
]


@pytest.mark.parametrize("page, content", SPACES)
def test_spaces_on_pages_are_valid(
    workspace: Workspace, page: str, content: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"task": "digits", **yaml.safe_load(content)}))
    parse_studies(read_yaml(path), [])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        file = page.parent / path if path else page
        if "://" in link:
            continue
        if not file.exists():
            missing.append(link)
        elif anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            if anchor not in {
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            }:
                missing.append(link)
    assert missing == []
