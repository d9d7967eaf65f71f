"""What tests share."""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that trials share, so that pictures are rendered once."""
    return tmp_path_factory.mktemp("digits-cache")


class OneRayAtATime(LoadScopeScheduling):
    """Gives whole files to processes, and all of `tests/end_to_end` to one of them.

    Those tests start Ray: two at a time would fight over the cores. Tests of one file stay
    together, so that their fixtures are set up once.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "tests/end_to_end" if path.startswith("tests/end_to_end/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneRayAtATime:
    """Distribute tests for `pytest -n 2`."""
    return OneRayAtATime(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the contracts' tests on two workers as slow.

    The contracts do not carry the mark themselves, because pytest warns of marks that a plugin
    author's configuration does not declare.
    """
    if item.name.startswith("test_two_workers_"):
        item.add_marker("slow")
