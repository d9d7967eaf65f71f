"""The environment that Ray and Tune read when they are imported."""

import json
import os
import subprocess
import sys

SCRIPT = """
import json, os, sys
import study.execution.ray_settings as module
environment = {name: os.environ.get(name) for name in module.SETTINGS}
print(json.dumps([module.SETTINGS, environment, "ray" in sys.modules]))
"""


def test_the_import_sets_every_variable_before_ray_is_imported() -> None:
    fresh = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=fresh, capture_output=True, text=True, check=True
    )
    settings, environment, has_ray = json.loads(done.stdout)
    assert environment == settings != {}
    assert not has_ray
