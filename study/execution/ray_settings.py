"""Environment variables that configure Ray and Tune; import this module before Ray.

They turn off what a study does itself (logs, snapshots, signals) or does not want (reports of
usage, warnings about trials that wait).
"""

import os

SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Without deduplication Ray prints nothing about lost workers, which the study's log reports.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Needs one more process, while trials resume from checkpoints without a warning.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Seconds. Waiting for resources is no failure: an autoscaler may need long for a machine.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "86400",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Seconds. A snapshot holds all trials, takes longer with each, and is never read: a resumed
    # study starts from its records (docs/scaling.md has the measurement).
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Environment variables by name. Ray reads some of them when it is imported."""

os.environ.update(SETTINGS)
