"""How the recorded traces' networks, settings and terms correspond to this project's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from tests.golden.traces import Trace
from trainables.methods import METHODS, Method
from trainables.nn.networks import Backbone
from trainables.nn.optimization import OptimizerConfig, optimizer_factory
from trainables.runtime.distributed import Runtime


@dataclass(frozen=True)
class Wiring:
    """How a file's names and terms correspond to a method's."""

    method: str
    names: Mapping[str, str]
    """Their modules -> ours, longest first."""
    config: Callable[[Trace], dict[str, object]] = lambda trace: {}
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Our loss term -> theirs that it is the sum of."""
    totals: tuple[str, ...] = ("total",)
    """What their objective, of one backward pass of ours, is the sum of."""
    logits: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Domain -> the head that gives its logits, and in which of the head's calls of a step."""

    def ours(self, name: str) -> str:
        """Our name of a parameter or buffer of theirs."""
        for theirs, mine in self.names.items():
            if name == theirs or name.startswith(theirs + "."):
                return mine + name[len(theirs) :]
        raise KeyError(name)


TRUNK = {"trunk.bn": "backbone.trunk.bn", "trunk": "backbone.trunk.linear"}
HEAD_LAYERS = {"linear1": 1, "bn1": 2, "linear2": 5, "bn2": 6, "linear3": 8}
SOURCE_FIRST = {"source": ("classifier", 0), "target": ("classifier", 1)}


def _rca_config(trace: Trace) -> dict[str, object]:
    on = trace.number("hp/em")
    vat = (
        {
            "xi": trace.number("hp/xi"),
            "epsilon": trace.number("hp/eps_vat"),
            "num_power_steps": int(trace.number("hp/ip")),
        }
        if trace.number("hp/vat")
        else None
    )
    return {"balance_weight": 0.1 * on, "entropy_weight": on, "vat": vat}


def _srdc_config(trace: Trace) -> dict[str, object]:
    soft = trace.number("hp/soft") if "hp/soft" in trace else "soft" in trace.name
    return {
        "alpha": trace.number("hp/alpha"),
        "beta": trace.number("hp/beta"),
        "bottleneck_dim": int(trace.number("hp/num_neurons")),
        "num_cluster_iterations": int(trace.number("hp/cluster_iter")),
        "consistency_weight": trace.number("hp/aug"),
        "source_selection": "soft_mixed"
        if trace.number("hp/mix_weight")
        else "soft"
        if soft
        else "none",
    }


WIRINGS = {
    "no_adaptation": Wiring(
        "no_adaptation", TRUNK | {"fc": "classifier"}, terms={"classification": ("total",)}
    ),
    "supervised": Wiring(
        "supervised", TRUNK | {"fc": "classifier"}, terms={"classification": ("total",)}
    ),
    "dann": Wiring(
        "dann",
        TRUNK | {"fc": "classifier", "domain_fc": "discriminator"},
        terms={"classification": ("source_class",), "domain": ("source_domain", "target_domain")},
        logits={
            "source": ("classifier", 0),
            "source_domain": ("discriminator", 0),
            "target_domain": ("discriminator", 1),
        },
    ),
    "mcd": Wiring(
        "mcd",
        {"G.trunk": "backbone.trunk.linear"}
        | {
            f"F{head + 1}.{layer}": f"heads.{head}.{index}"
            for head in range(2)
            for layer, index in HEAD_LAYERS.items()
        },
        config=lambda trace: {
            "hidden_dim": len(trace["init/F1.linear1.bias"]),
            "dropout": 0.0,
            "balance_weight": 0.01 if trace.text("hp/setting") == "mcd_their_entropy" else 0.0,
            "num_generator_steps": int(trace.number("hp/num_k")),
        },
        terms={
            "classification": ("A_ce1", "A_ce2"),
            "imbalance": ("A_balance1", "A_balance2"),
            "head_classification": ("B_ce1", "B_ce2"),
            "head_discrepancy": ("B_discrepancy",),
            "head_imbalance": ("B_balance1", "B_balance2"),
        },
        totals=("A_total",),
    ),
    "rca": Wiring(
        "rca",
        TRUNK | {"fc_joint": "joint", "fc": "classifier"},
        config=_rca_config,
        terms={
            "classification": ("min_source_class",),
            "imbalance": ("min_balance",),
            "target_entropy": ("max_entropy",),
            "joint_heads": ("min_source_joint", "min_target_joint"),
            "joint_features": ("max_source_joint", "max_target_joint"),
            "smoothness_heads": ("vat_min_source", "vat_min_target"),
            "smoothness_features": ("vat_max_source", "vat_max_target"),
        },
        totals=("min_total", "max_total"),
        logits=SOURCE_FIRST,
    ),
    "srdc": Wiring(
        "srdc",
        TRUNK
        | {
            "fc1.linear": "bottleneck.0",
            "fc1.bn": "bottleneck.1",
            "fc2": "classifier",
            "center1": "centres.0",
            "center2": "centres.1",
        },
        config=_srdc_config,
        terms={
            "classification": ("source_logits",),
            "target_classes": ("target_logits",),
            "target_centres": ("target_center1", "target_center2"),
            "source_centres": ("source_center1", "source_center2"),
            "consistency": ("consistency",),
        },
        logits={"target": ("classifier", 0), "source": ("classifier", -1)},
    ),
    "disclusterda": Wiring(
        "disclusterda",
        TRUNK
        | {
            "fc1": "classifier",
            "source_centroid": "source_centroids",
            "target_centroid": "target_centroids",
        },
        config=lambda trace: {
            "keep": trace.number("hp/remain"),
            "temperature": trace.number("hp/temperature"),
            "consistency_weight": trace.number("hp/aug"),
        },
        terms={
            "classification": ("source_class",),
            "imbalance": ("balance",),
            "target_entropy": ("target_afem",),
            "source_to_centroids": ("source_to_centroid",),
            "target_to_centroids": ("target_to_centroid_afem",),
            "consistency": ("consistency",),
        }
        | {
            f"{domain}_centroid_{ours}": (f"{domain}_centroid_{theirs}",)
            for domain in ("source", "target")
            for ours, theirs in (("classes", "class"), ("pairs", "pair"))
        },
        logits={"target": ("classifier", 0), "source": ("classifier", 1)},
    ),
}
WIRINGS["srdc_legacy"] = WIRINGS["srdc"]


def build(trace: Trace, wiring: Wiring) -> Method:
    """The method on the trace's tiny networks, in their initial state."""
    weight = trace["init/" + next(n for n in trace.names("init/") if n.endswith("trunk.weight"))]
    layers = {"flatten": nn.Flatten(), "linear": nn.Linear(*reversed(weight.shape))}
    if "init/trunk.bn.weight" in trace:
        layers["bn"] = nn.BatchNorm1d(len(weight))
    trunk = nn.Sequential()
    for name, layer in (layers | {"relu": nn.ReLU()}).items():
        trunk.add_module(name, layer)
    entry = METHODS[wiring.method]
    optimizer = OptimizerConfig(
        learning_rate=trace.number("hp/lr"),
        momentum=trace.number("hp/momentum"),
        weight_decay=trace.number("hp/weight_decay"),
        backbone_lr_multiplier=0.1 if "hp/lr_backbone" in trace else 1.0,
        clip_norm=trace.number("hp/max_norm") if "hp/max_norm" in trace else None,
    )
    method = entry(
        entry.Config.model_validate(wiring.config(trace)),
        Backbone(trunk, len(weight)),
        int(trace.number("hp/num_classes")),
        optimizer_factory(optimizer),
        Runtime(),
    )
    state = method.networks.state_dict()
    state |= {wiring.ours(name): trace["init/" + name] for name in trace.names("init/")}
    method.networks.load_state_dict(state)
    return method
