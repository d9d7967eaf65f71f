"""Skips, with the reason, where there can be no machines."""

from pathlib import Path

import pytest

from tests.cluster_e2e.hosts import why_not


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr != "cluster":
        return
    reason = why_not()
    for item in items:
        if Path(__file__).parent in item.path.parents and reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
