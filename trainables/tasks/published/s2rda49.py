"""S2RDA-49: from renders of ShapeNet's models to photographs of 49 classes."""

from typing import final

from typing_extensions import override

from trainables.tasks.base import TaskConfig
from trainables.tasks.published._s2rda import S2RDA_49, S2RDAConfig, s2rda_layout
from trainables.tasks.published.base import Layout, PublishedTask


@final
class S2RDA49(PublishedTask):
    """Adapts on unlabelled photographs; the published val part is for the oracle, test is last."""

    class Config(S2RDAConfig):
        """S2RDA's."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, S2RDA49.Config)
        return s2rda_layout(config, S2RDA_49, "S2RDA-49", "s2rda49", 30_262, 30_273)
