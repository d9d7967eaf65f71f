"""slurm.sh with stand-ins for Slurm's commands: what it would run, with which rights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.files import FOLDER

SCRIPTS = sorted(FOLDER.glob("*.sh"))
SRUN = """#!/bin/bash
printf '%s\\0' "$@" > "$HOME/arguments"
env > "$HOME/environment"
"""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames node[07-08]" ] && printf 'node07\\nnode08\\n'
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home after the script ran in it."""
    home = tmp_path_factory.mktemp("slurm")
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "activate").write_text(f'PATH="{home}/bin:$PATH"\n')
    (home / "bin").mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
    (home / "bin" / "ray").symlink_to(Path(sys.executable).parent / "ray")
    done = subprocess.run(
        [FOLDER / "slurm.sh", "--space", "digits", "--set", "task={digits: {}}"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "USER": "me",
            "SLURM_JOB_ID": "12",
            "SLURM_JOB_NODELIST": "node[07-08]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "32",
        },
    )
    assert done.returncode == 0, done
    assert (home / ".ray" / "auth_token").read_text().strip() not in done.stdout + done.stderr
    return home


def test_the_study_runs_on_all_nodes_of_the_allocation(home: Path) -> None:
    arguments = (home / "arguments").read_text().split("\0")[:-1]
    study = arguments.index("--")
    options = arguments[:study]
    assert {"--nodes=2", "--ntasks=2"} <= set(options)
    ray = options[options.index("ray") :]
    assert ray == [
        "ray",
        "symmetric-run",
        "--address",
        "node07:6379",
        "--min-nodes",
        "2",
        "--num-cpus=32",
        '--resources={"trial_slot": 8}',
        "--dashboard-host=127.0.0.1",
        "--disable-usage-stats",
    ]
    assert arguments[study + 1 :] == [
        "python",
        "-m",
        "study.run",
        "--address",
        "auto",
        "--space",
        "digits",
        "--set",
        "task={digits: {}}",
    ]


def test_the_token_is_on_and_nobody_else_can_read_it(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0 and token.parent.stat().st_mode & 0o077 == 0
    environment = (home / "environment").read_text()
    assert "RAY_AUTH_MODE=token\n" in environment
    assert token.read_text().strip() not in environment + (home / "arguments").read_text()
