"""S2RDA-MS-39: from renders of ShapeNet models to photographs of MetaShift, in 39 classes."""

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
"""Classes of S2RDA-49 without photographs in MetaShift."""
S2RDA_MS_39 = tuple(name for name in S2RDA_49 if name not in _ABSENT)


@final
class S2RDAMS39(PublishedTask):
    """Adaptation from renders to unlabelled photographs.

    Only the oracle reads the labels of the published val part; the test part is evaluated once.
    """

    class Config(S2RDAConfig):
        """``source`` is relative to the folder of the data set, which is ``root`` or in it."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, S2RDAMS39.Config)
        return s2rda_layout(config, S2RDA_MS_39, "S2RDA-MS-39", "s2rda_ms39", 20_859, 20_876)
