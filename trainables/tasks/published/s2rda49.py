"""S2RDA-49: from renders of ShapeNet models to photographs, in 49 classes."""

from typing import final

from typing_extensions import override

from trainables.tasks.base import TaskConfig
from trainables.tasks.published._s2rda import S2RDA_49, S2RDAConfig, s2rda_layout
from trainables.tasks.published.base import Layout, PublishedTask


@final
class S2RDA49(PublishedTask):
    """Adaptation from renders to unlabelled photographs.

    Only the oracle reads the labels of the published val part; the test part is evaluated once.
    """

    class Config(S2RDAConfig):
        """``source`` is relative to the folder of the data set, which is ``root`` or in it."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, S2RDA49.Config)
        return s2rda_layout(config, S2RDA_49, "S2RDA-49", "s2rda49", 30_262, 30_273)
