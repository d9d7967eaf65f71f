"""Ratio of the target's and the source's density of feature vectors."""

import torch
from torch import Tensor

from trainables.criteria._order import own_order

_DECAY = 0.1
"""Weight decay of the domain classifier: half of it times the squared norm of the weights is added
to the mean loss. It is the largest of those from which You et al. choose by accuracy."""


def density_ratio(source: Tensor, target: Tensor) -> Tensor:
    """Estimate ``p_target(x) / p_source(x)`` at each source sample.

    The estimate is ``P(target|x) / P(source|x) · N_s / N_t`` by a domain classifier (Bickel et
    al., ICML 2007), here a logistic regression on standardised features. It is cross-fitted on two
    halves, because a classifier is overconfident about the source samples that it was fitted on.
    The halves do not depend on the order of the samples.

    Args:
        source: Source features, shape ``(N_s, D)``, N_s > 1.
        target: Target features, shape ``(N_t, D)``, N_t > 1.

    Returns:
        Positive ratios, float64, shape ``(N_s,)``.
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
    """Fit weights ``(D,)`` and bias of ``log P(target|x) / P(source|x)``."""
    # Imported here: it takes a second, which processes without this criterion save.
    from sklearn.linear_model import LogisticRegression

    features = torch.cat([source, target])
    is_target = [0] * len(source) + [1] * len(target)
    model = LogisticRegression(C=1 / (_DECAY * len(features)), max_iter=1000).fit(
        features.float().numpy(), is_target
    )
    return torch.from_numpy(model.coef_[0]).double(), float(model.intercept_[0])
