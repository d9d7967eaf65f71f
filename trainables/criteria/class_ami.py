"""Agreement of target predictions with clusters of target features."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from trainables.criteria._order import own_order
from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class ClassAMI(Criterion):
    """Adjusted mutual information of predicted classes and feature clusters, on the target.

    Musgrave et al., 2022, arXiv:2208.07360. ``AMI = (I - E[I]) / (mean(H(classes), H(clusters)) -
    E[I])``, with the expectation over random labellings (Vinh et al., JMLR 2010). Clusters come
    from one run of k-means with K centres, initialised by k-means++ with a fixed seed. Features
    are first scaled to norm 1, so that clusters differ in direction, as classes do.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score of at most 1, and about 0 for labels independent of the clusters."""
        # Imported here: it takes a second, which processes without this criterion save.
        from sklearn.metrics import adjusted_mutual_info_score

        logits, features = evaluation.target.logits, evaluation.target.features
        order = own_order(features)
        clusters = _clusters(F.normalize(features[order]), logits.shape[1])
        return max(
            float(
                adjusted_mutual_info_score(logits.argmax(dim=1)[order].numpy(), clusters.numpy())
            ),
            -1.0,
        )

    @override
    def lower_bound(self, num_classes: int) -> float:
        """Return -1, to which :meth:`score` clips values that only tiny samples reach."""
        return -1.0


def _clusters(features: Tensor, num_clusters: int) -> Tensor:
    """Return the cluster of each sample, int64, shape ``(N,)``."""
    from sklearn.cluster import KMeans

    distinct = len(features.unique(dim=0))  # may be fewer than K in a collapsed network
    model = KMeans(min(num_clusters, distinct), n_init=1, random_state=0)
    return torch.from_numpy(model.fit(features.numpy()).labels_).long()
