"""Replays recorded training steps through this project's own methods.

Each step records, through hooks, what the optimizers and the heads see: objectives, outputs,
gradients, states. The methods themselves are the ones that trials run.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from tests.golden.replay_wiring import WIRINGS, Wiring, build
from tests.golden.traces import Trace
from trainables.data.batch import Batch, EpochViews
from trainables.data.evaluation import classification_metrics
from trainables.methods import RCA, SRDC, Method
from trainables.nn.clustering import EPSILON, cluster_centres
from trainables.nn.losses import entropy, ramp_up
from trainables.nn.optimization import (
    ScheduleConfig,
    learning_rate_factor,
    set_learning_rate,
    training_progress,
)


class Recorder:
    """What happens inside of a step."""

    def __init__(self) -> None:
        self.totals: list[Tensor] = []
        self.outputs: dict[str, list[Tensor]] = {}
        self.gradients: dict[str, Tensor] = {}
        self.states: list[dict[str, Tensor]] = []
        """After each step of the last optimizer."""


@contextmanager
def recording(method: Method) -> Iterator[Recorder]:
    """Records the steps taken inside."""
    record = Recorder()
    backward = Tensor.backward

    def recorded_backward(total: Tensor) -> None:
        record.totals.append(total.detach())
        backward(total)

    def output_recorder(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, inputs, output: record.outputs.setdefault(name, []).append(output)

    def gradient_recorder(name: str) -> Callable[[Tensor], None]:
        return lambda parameter: record.gradients.update({name: parameter.grad.clone()})

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Tensor, "backward", recorded_backward))
        for name, module in method.networks.named_modules():
            handle = module.register_forward_hook(output_recorder(name))
            stack.callback(handle.remove)
        for name, parameter in method.networks.named_parameters():
            handle = parameter.register_post_accumulate_grad_hook(gradient_recorder(name))
            stack.callback(handle.remove)
        last = list(method.optimizers.values())[-1]
        handle = last.register_step_post_hook(
            lambda *_: record.states.append(
                {name: value.clone() for name, value in method.networks.state_dict().items()}
            )
        )
        stack.callback(handle.remove)
        yield record


def replay_method(trace: Trace) -> None:
    """Replays all steps of a trace of a method."""
    wiring = WIRINGS[trace.file]
    method = build(trace, wiring)
    if "hp/eps" in trace:
        trace.compare("hp/eps", EPSILON)
    if trace.file == "srdc_legacy":
        _accumulate_gradients(method)
    _compare_groups(trace, method, wiring)
    for step in range(int(trace.number("hp/num_steps"))):
        at = f"step{step}/"
        progress = _set_schedule(trace, method, wiring, step)
        batch = _batch(trace, at)
        _prepare(trace, method, batch, at)
        with recording(method) as record:
            losses = method.update(batch, progress)
        _compare_step(trace, at, method, wiring, record, losses)
        if trace.file == "mcd":
            _compare_mcd(trace, at, batch, wiring, record)
        if f"{at}weight" in trace:
            trace.compare(
                f"{at}weight", 1.0 if trace.number(f"{at}epoch") == 0 else ramp_up(progress)
            )
        if trace.file == "dann" and f"{at}validate/prec1" in trace:
            compare_accuracies(
                trace, at, method, trace["validate_images"], trace["validate_labels"]
            )


def _accumulate_gradients(method: Method) -> None:
    """Emulates the reference's defect: it never zeroes the gradient of SRDC's centres."""
    assert isinstance(method, SRDC)
    for centres in method.centres:
        total = torch.zeros_like(centres)

        def accumulate(parameter: Tensor, total: Tensor = total) -> None:
            total += parameter.grad
            parameter.grad.copy_(total)

        centres.register_post_accumulate_grad_hook(accumulate)


def _group_of(method: Method, name: str) -> dict[str, object]:
    parameter = dict(method.networks.named_parameters())[name]
    return next(
        group
        for optimizer in method.optimizers.values()
        for group in optimizer.param_groups
        if any(parameter is each for each in group["params"])
    )


def _compare_groups(trace: Trace, method: Method, wiring: Wiring) -> None:
    for key in ("hp/groups", "hp/groups_G", "hp/groups_F"):
        for group in json.loads(trace.text(key)) if key in trace else []:
            for name in group["params"]:
                mine = _group_of(method, wiring.ours(name))
                for setting in ("lr", "momentum", "weight_decay", "nesterov", "dampening"):
                    trace.record(f"{key}/{name}/{setting}", mine[setting], group[setting])


SUPERVISED_SCHEDULES: dict[str, dict[str, object]] = {
    "cosine": {"decay": "cosine"},
    "warmup_linear": {"decay": "linear"},
    "step097": {"decay": "exponential", "decay_factor": 0.97, "decay_interval": 2},
    "constant": {"decay": "constant"},
}


def _set_schedule(trace: Trace, method: Method, wiring: Wiring, step: int) -> float:
    """Sets the learning rates of a step, compares them, and gives the progress."""
    at = f"step{step}/"
    if trace.file == "supervised":
        num_steps = int(trace.number("hp/num_steps"))
        schedule = ScheduleConfig.model_validate(
            {
                "num_epochs": None,
                "num_steps": num_steps,
                "per": "step",
                "warmup_steps": int(trace.number("hp/warmup_iters")),
                **SUPERVISED_SCHEDULES[trace.name],
            }
        )
        position = (schedule, step, num_steps, num_steps)
    else:
        num_epochs = int(trace.number("hp/epochs"))
        decay = "dann" if trace.name.startswith("run_") else "constant"
        schedule = ScheduleConfig.model_validate({"num_epochs": num_epochs, "decay": decay})
        position = (schedule, int(trace.number(at + "epoch")), num_epochs, 1)
    for optimizer in method.optimizers.values():
        set_learning_rate(optimizer, learning_rate_factor(*position))
    progress = training_progress(*position)
    if at + "lambda" in trace:
        trace.compare(at + "lambda", ramp_up(progress))
    for key, groups in (("lr", "hp/groups"), ("lr_G", "hp/groups_G"), ("lr_F", "hp/groups_F")):
        if at + key in trace:
            names = (
                [group["params"][0] for group in json.loads(trace.text(groups))]
                if groups in trace
                else ["fc.weight"]
            )
            rates = [_group_of(method, wiring.ours(name))["lr"] for name in names]
            trace.compare(at + key, torch.tensor(rates))
    return progress


def _batch(trace: Trace, at: str) -> Batch:
    images, labels = trace[at + "source_images"], trace[at + "source_labels"]
    target = trace[at + "target_images"] if at + "target_images" in trace else images[:0]
    index = at + "source_index"
    return Batch(
        images,
        labels,
        trace[index] if index in trace else torch.arange(len(images)),
        target,
        torch.arange(len(target)),
        trace[at + "target_images_aug"] if at + "target_images_aug" in trace else None,
    )


def _prepare(trace: Trace, method: Method, batch: Batch, at: str) -> None:
    """Puts what comes from outside of a step where the method finds it."""
    if isinstance(method, RCA) and trace.number("hp/vat"):
        names = ("min_source", "min_target", "max_source", "max_target")
        noise = iter([trace[f"{at}vat_noise/{name}"] for name in names])
        method.draw_noise = lambda images: next(noise)
    if isinstance(method, SRDC):
        if trace.name.startswith("run_"):
            _begin_epoch(trace, method, batch, at)
        else:
            memory, weights = method.memory, trace[at + "source_weights"]
            memory.epoch = int(trace.number(at + "epoch"))
            memory.target_labels = trace[at + "target_labels"]
            if method.config.source_selection != "none":
                memory.source_weights = torch.zeros(int(batch.source_indices.max()) + 1)
                memory.source_weights[batch.source_indices] = weights
            else:
                trace.record(at + "source_weights", weights, torch.ones(len(weights)))
        for i, centres in enumerate(method.centres, start=1):
            if f"{at}reinit/center{i}" in trace:
                centres.data.copy_(trace[f"{at}reinit/center{i}"])


def _begin_epoch(trace: Trace, method: SRDC, batch: Batch, at: str) -> None:
    """The main loop's work at the start of an epoch, its parts compared one by one."""
    source = trace["source_set_images"], trace["source_set_labels"]
    images = trace["target_set_images"]
    compare_accuracies(trace, at, method, images, trace["target_set_true_labels"])
    views = EpochViews(  # uneven batches: their boundaries must not matter
        lambda: zip(*(part.split(17) for part in source), strict=True),
        lambda: iter(images.split(23)),
    )
    with method.evaluating():
        labels = method.predict(images).logits.argmax(dim=1)
        levels = zip(method._source_means(views), method._levels(images), strict=True)
        for i, (means, features) in enumerate(levels, start=1):
            trace.compare(f"{at}centroid/source{i}", means)
            trace.compare(
                f"{at}centroid/target{i}", cluster_centres(features, labels, method.num_classes)
            )
    method.begin_epoch(views, int(trace.number(at + "epoch")))
    trace.compare(at + "cluster_labels", method.memory.target_labels)
    trace.compare(at + "target_labels", method.memory.target_labels[batch.target_indices])
    trace.compare(at + "source_weights", method._sample_weights(batch, 1.0))
    for i, centres in enumerate(method.centres, start=1):
        trace.compare(f"{at}before/center{i}", centres)


def compare_accuracies(
    trace: Trace, at: str, method: Method, images: Tensor, labels: Tensor
) -> None:
    """Compares ``validate/*``; the reference counts absent classes as 0 and in the mean."""
    with method.evaluating():
        logits = method.predict(images).logits
    metrics = classification_metrics(logits, labels)
    present = len(labels.unique()) / logits.shape[1]
    trace.compare(f"{at}validate/prec1", 100 * metrics["accuracy"])
    trace.compare(f"{at}validate/mcp", 100 * metrics["mean_class_accuracy"] * present)


def _compare_step(
    trace: Trace,
    at: str,
    method: Method,
    wiring: Wiring,
    record: Recorder,
    losses: dict[str, Tensor],
) -> None:
    for mine, theirs in wiring.terms.items():
        if f"{at}loss/{theirs[0]}" in trace:
            trace.record(
                f"{at}loss/{mine}", losses[mine], sum(trace[f"{at}loss/{name}"] for name in theirs)
            )
    trace.record(
        f"{at}loss/total",
        record.totals[0],
        sum(trace[f"{at}loss/{name}"] for name in wiring.totals),
    )
    _compare_sums(trace, at, losses)
    logits = {domain: record.outputs[head][call] for domain, (head, call) in wiring.logits.items()}
    _compare_outputs(trace, at, logits)

    parameters = dict(method.networks.named_parameters())
    for name in trace.names(at + "grad/"):
        trace.compare(f"{at}grad/{name}", record.gradients[wiring.ours(name)])
    for name in trace.names(at + "clipped_grad/"):
        trace.compare(f"{at}clipped_grad/{name}", parameters[wiring.ours(name)].grad)
    if at + "grad_norm" in trace:
        trace.compare(
            at + "grad_norm",
            torch.stack([gradient.norm() for gradient in record.gradients.values()]).norm(),
        )
    state = method.networks.state_dict()
    for name in trace.names(at + "after/"):
        trace.compare(f"{at}after/{name}", state[wiring.ours(name)])


def _compare_sums(trace: Trace, at: str, losses: dict[str, Tensor]) -> None:
    """Compares the sums of terms that the reference reports beside the terms."""
    if f"{at}loss/centroid_sum" in trace:
        trace.compare(
            f"{at}loss/centroid_sum",
            sum(value for name, value in losses.items() if "centroid" in name),
        )
    if f"{at}loss/domain" in trace:
        trace.compare(f"{at}loss/domain", losses["domain"])
    if f"{at}loss/max_source_class" in trace:
        trace.compare(f"{at}loss/max_source_class", losses["classification"])


def _compare_outputs(trace: Trace, at: str, logits: dict[str, Tensor]) -> None:
    for domain, values in logits.items():
        if f"{at}out/{domain}_logits" in trace:
            trace.compare(f"{at}out/{domain}_logits", values)
    if at + "report/top1_source" in trace:
        trace.compare(
            at + "report/top1_source", percent(logits["source"], trace[at + "source_labels"])
        )
    if at + "report/top1_domain" in trace:
        both = torch.cat([logits["source_domain"], logits["target_domain"]])
        trace.compare(
            at + "report/top1_domain",
            percent(both, torch.arange(2).repeat_interleave(len(both) // 2)),
        )
    if at + "pseudo_labels" in trace:
        trace.compare(at + "pseudo_labels", logits["target"].argmax(dim=1))


def _compare_mcd(trace: Trace, at: str, batch: Batch, wiring: Wiring, record: Recorder) -> None:
    """Compares MCD's three kinds of steps; the heads' optimizer is the last one."""
    trace.compare(at + "loss/B_total", record.totals[1])
    trace.compare(at + "loss/C_discrepancy", torch.stack(record.totals[2:]))
    for index, name in ((0, "A"), (1, "B"), (-1, "C")):
        trace.compare(f"{at}report/loss_{name}", record.totals[index])
    for name, state in zip("AB", record.states, strict=True):
        for each in trace.names(f"{at}after_{name}/"):
            trace.compare(f"{at}after_{name}/{each}", state[wiring.ours(each)])
    for head in (1, 2):
        outputs = record.outputs[f"heads.{head - 1}"]
        trace.compare(f"{at}loss/A_entropy{head}", entropy(outputs[1]))
        trace.compare(f"{at}loss/B_entropy{head}", entropy(outputs[3]))
        trace.compare(f"{at}report/top1_c{head}", percent(outputs[0], batch.source_labels))


def percent(logits: Tensor, labels: Tensor) -> float:
    """Accuracy in percent."""
    return 100 * classification_metrics(logits, labels)["accuracy"]
