"""Training steps by PyTorch: on other devices, and for networks that the kernels do not serve."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lenet.data.distortion import spline_basis
from lenet.engine.fused import flatten, views
from lenet.engine.objective import Objective
from lenet.errors import LenetError
from lenet.networks.torch import from_architecture, scores
from lenet.training.autograd_warp import warp
from lenet.training.engines import Batch, Engine, Flat, Job, by_name, require_fit
from lenet.training.recipe import Optimisation
from lenet.training.world import World

WARM_UP = 3  # steps before one is captured, in which libraries choose and load their kernels


def loss_of(objective: Objective, scores: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """The objective of scores (N, C), labels (N,) and, with teachers, their targets (N, C)."""
    match objective.loss:
        case "cross-entropy":
            loss = F.cross_entropy(scores, labels, label_smoothing=objective.label_smoothing)
        case "mse":
            loss = F.mse_loss(scores, F.one_hot(labels, scores.shape[1]).to(scores.dtype))
        case "penalty":
            loss = penalty(scores, labels)
        case "map":
            loss = map_criterion(scores, labels, objective.j)
    if targets is None:
        return loss
    share, t = objective.distillation, objective.temperature
    # T^2 keeps the gradients from shrinking with the temperature T.
    return (1 - share) * loss + share * t**2 * F.cross_entropy(scores / t, targets)


def penalty(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean penalty of the right class: criterion (8) of the 1998 paper."""
    return -scores.gather(1, labels[:, None]).mean()


def map_criterion(scores: Tensor, labels: Tensor, j: float) -> Tensor:
    """Criterion (9) of the 1998 paper: mean of y_D + log(e^-j + sum over i of e^-y_i).

    It lowers the penalty of the right class D and raises those of the others: cross-entropy with
    one class more, "rubbish", whose penalty is always j. Wrong classes with a penalty well above
    j are left alone.
    """
    rubbish = scores.new_full((len(scores), 1), -j)
    return F.cross_entropy(torch.cat([scores, rubbish], dim=1), labels)


def make_optimizer(how: Optimisation, parameters: list[Any]) -> torch.optim.Optimizer:
    """PyTorch's optimizer of minibatches, equal to that of the kernels."""
    if how.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, how.lr, (0.9, how.beta2), weight_decay=how.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters, how.lr, how.momentum, weight_decay=how.weight_decay, fused=True
    )


class AutogradEngine(Engine):
    """Steps by PyTorch's autograd and optimizers."""

    name = "autograd"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.shapes = [parameter.shape for parameter in job.architecture.parameters]
        self.device = torch.device(job.device)
        self.model = self.module()
        self.average = self.module() if self.how.averaging else None
        self.parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(self.how, self.parameters)
        self.update_average = get_ema_multi_avg_fn(self.how.averaging)
        self.basis = self.on_device(spline_basis(job.train.images.shape[-1]))
        self.resumed = False
        self.images, self.labels = map(self.on_device, (job.train.images, job.train.labels))

    def module(self) -> Any:
        arrays = by_name(self.architecture, self.job.weights)
        return from_architecture(self.architecture, arrays).to(self.device)

    def on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def step_alone(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self.model.zero_grad()
        with cpu_threads(self.job.threads):
            results = self.backward(**self.tensors(batch))
            self.apply(batch.rate, batch.number)
        return results

    def gradients(self, batch: Batch) -> tuple[Flat, float, float]:
        self.model.zero_grad()
        with cpu_threads(self.job.threads):
            loss, right = self.backward(**self.tensors(batch))
        return flatten(p.grad.cpu().numpy() for p in self.parameters), float(loss), float(right)

    def update(self, gradients: Flat, rate: float, number: int) -> None:
        parts = views(gradients, self.shapes)
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = self.on_device(part)
        with cpu_threads(self.job.threads):
            self.apply(rate, number)

    def tensors(self, batch: Batch) -> dict[str, Tensor]:
        """The arguments of `backward` on the device."""
        warps = vars(batch.warps) if batch.warps else {}
        arrays = {"index": batch.index, "targets": batch.targets, **warps}
        return {name: self.on_device(a) for name, a in arrays.items() if a is not None}

    def backward(
        self, index: Tensor, targets: Tensor | None = None, **warps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and number right of a batch; its gradients are in the parameters."""
        images, labels = self.images[index], self.labels[index]
        if warps:
            images = warp(images, basis=self.basis, **warps)
        answers = self.model(self.model.prepare(images))
        loss = loss_of(self.job.recipe.objective, answers, labels, targets)
        loss.backward()
        return loss.detach(), (answers.argmax(dim=1) == labels).sum()

    def apply(self, rate: float, number: int) -> None:
        """Updates the parameters by their gradients."""
        if self.resumed and self.how.optimizer == "adamw":
            for parameter in self.parameters:
                self.optimizer.state[parameter]["step"] = torch.tensor(number - 1.0).to(self.device)
        self.resumed = False
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.change_weights()

    def change_weights(self) -> None:
        self.optimizer.step()
        if self.average is not None:
            self.update_average(tuple(self.average.parameters()), tuple(self.parameters), 0)

    def scores_alone(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with cpu_threads(self.job.threads):
            return scores(self.average or self.model, images)

    def state(self) -> dict[str, Flat]:
        state = {"weights": flat_parameters(self.model)}
        if self.average is not None:
            state["average"] = flat_parameters(self.average)
        if names := self.moment_names():
            state["moments"] = np.stack(
                [flatten(self.moment(p, name) for p in self.parameters) for name in names]
            )
        return state

    def moment(self, parameter: Any, name: str) -> NDArray[np.float32]:
        moment = self.optimizer.state[parameter].get(name)
        return np.zeros(parameter.shape, np.float32) if moment is None else moment.cpu().numpy()

    def moment_names(self) -> tuple[str, ...]:
        if self.how.optimizer == "adamw":
            return ("exp_avg", "exp_avg_sq")
        return ("momentum_buffer",) if self.how.momentum else ()

    def restore(self, state: Mapping[str, Flat]) -> None:
        require_fit(state, self.state())
        self.resumed = True
        for name, model in (("weights", self.model), ("average", self.average)):
            if model is not None:
                with torch.no_grad():
                    parts = views(state[name], self.shapes)
                    for parameter, part in zip(model.parameters(), parts, strict=True):
                        parameter.copy_(torch.from_numpy(part))
        for row, name in enumerate(self.moment_names()):
            parts = views(state["moments"][row], self.shapes)
            for parameter, part in zip(self.parameters, parts, strict=True):
                self.optimizer.state[parameter][name] = self.on_device(part.copy())


def capture_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Records the step as a CUDA graph, without executing it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class GraphEngine(AutogradEngine):
    """The same, with a whole step captured as one CUDA graph. Never measured on a GPU so far.

    A LeNet step is dozens of kernels of a few microseconds each; launched one by one they would
    wait for Python.
    """

    name = "graph"

    def __init__(
        self, job: Job, capture: Callable[[Callable[[], None]], Callable[[], None]] = capture_graph
    ) -> None:
        super().__init__(job)
        if capture is capture_graph and self.device.type != "cuda":
            raise LenetError(f"the engine graph needs a CUDA device, not {job.device}")
        if job.world.size > 1:
            raise LenetError("the engine graph is for one process: use --engine autograd")
        self.capture = capture
        self.rate = torch.zeros((), device=self.device)
        self.inputs: dict[str, Tensor] = {}
        self.results: tuple[Tensor, Tensor]
        self.replay: Callable[[], None] | None = None
        self.warm_steps = 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
            if "capturable" in group:
                group["capturable"] = True

    def step_alone(self, batch: Batch) -> tuple[Tensor, Tensor]:
        whole = len(batch.index) == self.how.batch_size
        if not whole or self.warm_steps < WARM_UP or self.resumed:
            self.warm_steps += whole
            results = super().step_alone(batch)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
            return results
        self.rate.fill_(batch.rate)
        tensors = self.tensors(batch)
        if self.replay is None:
            self.inputs = tensors
            self.model.zero_grad(set_to_none=True)  # the graph's gradients have their own memory
            self.replay = self.capture(self.captured_step)
        for name, tensor in tensors.items():
            self.inputs[name].copy_(tensor)
        self.replay()
        return self.results[0].clone(), self.results[1].clone()

    def captured_step(self) -> None:
        self.model.zero_grad()
        self.results = self.backward(**self.inputs)
        self.change_weights()


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Makes PyTorch use that many CPU threads, as sums depend on it; None for its own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def flat_parameters(model: Any) -> Flat:
    return flatten(parameter.detach().cpu().numpy() for parameter in model.parameters())


def check_device(name: str, world: World) -> str:
    """The device of that name for this process; "auto" is CUDA if available, else the CPU.

    Raises:
        LenetError: there is no such device here, or processes cannot share it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if world.size > 1 and device.type == "cuda":
            device = torch.device("cuda", world.local_rank)
        torch.ones(1, device=device).item()  # "meta" and the like hold no numbers
    except (RuntimeError, AssertionError) as error:
        raise LenetError(f"no device {name!r} here: {str(error).splitlines()[0]}") from None
    if world.size > 1 and device.type not in ("cpu", "cuda"):
        raise LenetError(f"processes share CPUs or CUDA devices, not {device}: use --device")
    return str(device)
