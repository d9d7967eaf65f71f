"""Whether target predictions are the clusters of target features."""

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
    """Adjusted mutual information of predicted classes and clusters, on the target.

    Musgrave et al., 2022, arXiv:2208.07360. Clusters are those of k-means with K centres, started
    once by k-means++ with a fixed seed; ``AMI = (I - E[I]) / (mean(H(classes), H(clusters)) -
    E[I])`` with the expectation over random labellings (Vinh et al., JMLR 2010). Features are
    scaled to length 1 first, so that clusters differ in direction, as classes do.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """At most 1; about 0 for labels that have nothing to do with the clusters."""
        # Here, because it takes a second that a process without this criterion need not wait for.
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
        """See :class:`Criterion`; a score below it counts as -1, which takes tiny samples."""
        return -1.0


def _clusters(features: Tensor, num_clusters: int) -> Tensor:
    """The cluster of each sample, int64, shape ``(N,)``."""
    from sklearn.cluster import KMeans

    distinct = len(features.unique(dim=0))  # a collapsed network has fewer points than clusters
    model = KMeans(min(num_clusters, distinct), n_init=1, random_state=0)
    return torch.from_numpy(model.fit(features.numpy()).labels_).long()
