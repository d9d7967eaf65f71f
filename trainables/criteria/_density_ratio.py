"""How much more likely a feature vector is on the target than on the source."""

import torch
from torch import Tensor

from trainables.criteria._order import own_order

_DECAY = 0.1
"""Weight decay of the domain classifier: half of it times the squared norm of its weights is
added to the mean loss. The largest of those among which You et al. choose by accuracy."""


def density_ratio(source: Tensor, target: Tensor) -> Tensor:
    """Estimates ``p_target(x) / p_source(x)`` at each source sample.

    ``P(target|x) / P(source|x) · N_s / N_t`` by a classifier of domains (Bickel et al., ICML
    2007), here a logistic regression of standardised features. It is fitted twice, each time on
    half of either domain, and judges the source samples of the other half: a classifier that has
    seen a sample calls it source all too surely. The halves do not depend on the order of the
    samples.

    Args:
        source: Features, shape ``(N_s, D)``, N_s > 1.
        target: Features, shape ``(N_t, D)``, N_t > 1.

    Returns:
        float64, shape ``(N_s,)``, positive.
    """
    source, target = _standardised(source, target)
    ratio = source.new_empty(len(source))
    source_order, target_order = own_order(source), own_order(target)
    for half in (0, 1):
        seen, judged = source_order[half::2], source_order[1 - half :: 2]
        weights, bias = _fit(source[seen], target[target_order[half::2]])
        ratio[judged] = (
            (source[judged] @ weights + bias).exp() * len(seen) / len(target_order[half::2])
        )
    return ratio


def _standardised(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([source, target]).double()
    spread = both.std(dim=0)
    both = (both - both.mean(dim=0)) / torch.where(spread > 0, spread, 1.0)
    return both[: len(source)], both[len(source) :]


def _fit(source: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """Weights ``(D,)`` and bias of ``log P(target|x) / P(source|x)``."""
    # Here, because it takes a second that a process without this criterion need not wait for.
    from sklearn.linear_model import LogisticRegression

    features = torch.cat([source, target])
    is_target = [0] * len(source) + [1] * len(target)
    model = LogisticRegression(C=1 / (_DECAY * len(features)), max_iter=1000).fit(
        features.float().numpy(), is_target
    )
    return torch.from_numpy(model.coef_[0]).double(), float(model.intercept_[0])
