"""S2RDA-MS-39: from renders of ShapeNet's models to MetaShift's photographs of 39 classes."""

from typing import final

from typing_extensions import override

from trainables.tasks.base import TaskConfig
from trainables.tasks.published._s2rda import S2RDA_49, S2RDAConfig, s2rda_layout
from trainables.tasks.published.base import Layout, PublishedTask

_ABSENT = {
    "birdhouse",
    "cap",
    "filecabinet",
    "flowerpot",
    "guitar",
    "mailbox",
    "microphone",
    "piano",
    "rifle",
    "washer",
}
"""Classes of S2RDA-49 that MetaShift has no photographs of."""
S2RDA_MS_39 = tuple(name for name in S2RDA_49 if name not in _ABSENT)


@final
class S2RDAMS39(PublishedTask):
    """Adapts on unlabelled photographs; the published val part is for the oracle, test is last."""

    class Config(S2RDAConfig):
        """S2RDA's."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, S2RDAMS39.Config)
        return s2rda_layout(config, S2RDA_MS_39, "S2RDA-MS-39", "s2rda_ms39", 20_859, 20_876)
