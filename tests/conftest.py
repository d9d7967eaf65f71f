"""What tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that trials share, so that pictures are rendered once."""
    return tmp_path_factory.mktemp("digits-cache")
