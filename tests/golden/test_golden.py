"""Every array that the reference left behind, against this project's own code."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.golden import replay_golden
from tests.golden.replay_golden import replay
from tests.golden.traces import TOLERANCE, Trace, read_traces

FOLDER = Path(__file__).parent

NOT_COMPARED = {
    r"hp/lr_backbone": "the multiplier of 0.1; compared as the groups' learning rates",
    r"hp/epoch": "each step has its own",
    r"hp/concat": "0 in all traces",
    r"hp/(xi|eps_vat|ip)": "of traces without VAT",
    r"step\d+/keep_(source|target)": "seen in the centroids after",
    r"batch\d/top5": "this project reports no top-5 accuracy",
}
"""Keys that a replay may leave unread, and why."""


@pytest.mark.parametrize("trace", list(read_traces(FOLDER)), ids=str)
def test_replays(trace: Trace) -> None:
    replay(trace)
    beyond = [(place, value) for place, value in trace.differences if value > TOLERANCE]
    assert trace.differences and not beyond
    unread = [key for key in trace.unread if not any(re.fullmatch(p, key) for p in NOT_COMPARED)]
    assert not unread


def test_command_names_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(FOLDER / "no_adaptation.npz", tmp_path)
    monkeypatch.setattr(sys, "argv", ["replay_golden", str(tmp_path)])
    assert replay_golden.main() == 0

    with np.load(tmp_path / "no_adaptation.npz") as stored:
        arrays = dict(stored)
    arrays["plain/step2/after/fc.bias"][0] += 1e-8
    np.savez(tmp_path / "no_adaptation.npz", **arrays)
    assert replay_golden.main() == 1
    assert "no_adaptation/plain/step2/after/fc.bias" in capsys.readouterr().out
