"""Studies to compare, and the command that compares them."""

from pathlib import Path

import pytest

from study.compare import main
from tests.support.fake_trials import make_record
from tests.support.stored_studies import Say, final, run_fake, runs, store

S2RDA = {"task": {"s2rda49": {}}, "backbone": {"resnet50": {}}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    run_fake(root / "digits_study")
    store(
        root / "s2rda",
        [
            *runs("no_adaptation", 0.5, 0.625, **S2RDA),
            *runs("srdc", 0.75, 0.5, **S2RDA),
            make_record("0000", [0.5], method="srdc", oracle=[0.5]).model_copy(
                update={"config": final("srdc", 1, {}, **S2RDA).config}
            ),
        ],
    )
    return root


@pytest.fixture
def say(root: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command on studies by name; what it prints."""

    def run(*arguments: str) -> str:
        assert main([str(root / a) if (root / a).is_dir() else a for a in arguments]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return run
