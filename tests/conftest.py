"""What tests share."""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell `pytest -n 2 --dist loadgroup` which tests run in one process.

    Slow tests start Ray or several workers and would fight over the cores: they run one after
    another, while the other process takes the rest, file by file, so that fixtures are set up
    once.
    """
    for item in items:
        is_slow = item.get_closest_marker("slow") is not None
        item.add_marker(pytest.mark.xdist_group("slow" if is_slow else str(item.path)))


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that trials share, so that pictures are rendered once."""
    return tmp_path_factory.mktemp("digits-cache")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the contracts' tests on two workers as slow.

    The contracts do not carry the mark themselves, because pytest warns of marks that a plugin
    author's configuration does not declare.
    """
    if item.name.startswith("test_two_workers_"):
        item.add_marker("slow")
