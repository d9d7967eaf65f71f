"""Whether mixtures of target images are called what their larger part is called."""

from typing import final

from torch import Tensor
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class MixVal(Criterion):
    """Consistency of predictions on mixtures of target images (Hu et al., NeurIPS 2023).

    Mixtures are ``0.55 a + 0.45 b``; an answer is right if it is the class that was predicted for
    ``a``. The score is the mean of two rates: of mixtures within a predicted class (is it
    dense?) and of mixtures across classes (where is the boundary?). The paper ranks the compared
    networks by each rate and averages ranks; a score of one network alone has the mean of rates.
    A probe without mixtures, as across classes where all images get the same class, counts as 0.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """In ``[0, 1]``."""
        mixtures = evaluation.mixtures
        classes = evaluation.target.logits.argmax(dim=1)
        first, second = classes[mixtures.first], classes[mixtures.second]
        right = mixtures.logits.argmax(dim=1) == first
        return (_rate(right[first == second]) + _rate(right[first != second])) / 2

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0


def _rate(right: Tensor) -> float:
    return float(right.double().mean()) if len(right) else 0.0
