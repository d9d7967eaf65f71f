"""What tests share."""

from pathlib import Path

import pytest


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
