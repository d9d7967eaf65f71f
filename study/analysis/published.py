"""The figures of Tang & Jia, CVPR 2023, for columns next to ours; not measured by this project.

They were obtained by the paper's protocol: the checkpoint with the best *target label* accuracy
was kept. That is selection by an oracle, and wherever the figures are shown, that word is.
"""

from importlib import resources
from typing import Any

from study.trials.records import TrialRecord
from trainables.configuration.yaml_file import parse_yaml
from trainables.tasks.published.synsl import SynSL

HEADING = "paper (oracle)"
"""The heading of every column that shows them."""

NOTE = (
    "paper (oracle): Tang & Jia, CVPR 2023, with checkpoints selected by an ORACLE, that is "
    "by target labels; not measured here."
)

BACKBONES = {"resnet50": "resnet50", "vit_base": "vit_b16", "mixer_base": "mixer_b16"}
"""The paper's name of each of our backbones."""
FIXED = {"SynSL-120K/train": True, "SynSL": False}
"""Whether the paper calls a source a fixed data set; images of the other one do not repeat."""
SYNSL_METRICS = {
    "test_IID/accuracy": "iid",
    "test_IID/mean_class_accuracy": "iid",
    "test_IID_wo_BG/accuracy": "iid_without_background",
    "test_IID_wo_BG/mean_class_accuracy": "iid_without_background",
    "test_OOD/accuracy": "ood_accuracy",
    "test_OOD/mean_class_accuracy": "ood_mean",
}
"""Columns of Table 1 by metric; on class-balanced sets accuracy and class mean are equal."""
S2RDA_METRICS = {"target_test/accuracy": "accuracy", "target_test/mean_class_accuracy": "mean"}
"""Columns of Table 4 by metric."""
TABLE_1_STEPS = 200_000


class Published:
    """The paper's tables.

    Args:
        tables: As in ``published_results.yaml``, in percent.
    """

    def __init__(self, tables: dict[str, Any]) -> None:
        self.tables = tables

    @classmethod
    def read(cls) -> "Published":
        """Read the tables that ship with the project."""
        text = resources.files("study.analysis").joinpath("published_results.yaml").read_text()
        return cls(parse_yaml(text))

    def figure(self, run: TrialRecord, metric: str) -> float | None:
        """Return the paper's figure of the same experiment, as a fraction, or ``None``.

        Args:
            run: A final run; its configuration says which of the paper's it corresponds to.
            metric: ``<test set>/<metric>``.
        """
        if run.task == "synsl":
            percent = self._supervised(run, SYNSL_METRICS.get(metric))
        else:
            percent = self._adapted(run, S2RDA_METRICS.get(metric))
        return None if percent is None else percent / 100

    def _adapted(self, run: TrialRecord, column: str | None) -> float | None:
        """Look up Table 4: ResNet-50 on S2RDA."""
        table = self.tables["table4_s2rda"]
        values = table.get(run.task, {}).get(run.method)
        if column is None or values is None or run.trial_config.backbone.name != "resnet50":
            return None
        return float(values[table["columns"].index(column)])

    def _supervised(self, run: TrialRecord, column: str | None) -> float | None:
        """Look up Table 1: networks trained on SynSL from scratch."""
        table = self.tables["table1_supervised"]
        columns = table["columns"]
        config = run.trial_config
        assert isinstance(config.task.config, SynSL.Config)
        if (
            column is None
            or config.schedule.num_steps != TABLE_1_STEPS
            or config.initialization.name != "none"
        ):
            return None
        wanted = ["synsl", FIXED.get(config.task.config.source), config.augmentation.name]
        for row in table.get(BACKBONES.get(config.backbone.name, ""), ()):
            if row[:3] == wanted:
                return float(row[columns.index(column)])
        return None
