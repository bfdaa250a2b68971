"""Training steps by PyTorch: on other devices, and for networks that the kernels do not serve."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lenet.data import Split
from lenet.data.distortion import Warps, spline_basis
from lenet.engine.fused import flatten, views
from lenet.engine.objective import Objective
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture
from lenet.networks.torch import from_architecture, scores
from lenet.training.autograd_warp import warp_on_device
from lenet.training.engines import Flat, require_fit
from lenet.training.recipe import Optimisation, Recipe
from lenet.training.world import ALONE, World

WARM_UP = 3  # first steps, before one is captured: libraries choose and load their kernels


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
    """Mean penalty of the right class: criterion (8) of the paper of 1998."""
    return -scores.gather(1, labels[:, None]).mean()


def map_criterion(scores: Tensor, labels: Tensor, j: float) -> Tensor:
    """Criterion (9) of the paper of 1998: mean of y_D + log(e^-j + sum over i of e^-y_i).

    It lowers the penalty of the right class D and raises those of the others: cross-entropy with
    one class more, "rubbish", whose penalty is always j. Wrong classes with a penalty well above
    j are left alone.
    """
    rubbish = scores.new_full((len(scores), 1), -j)
    return F.cross_entropy(torch.cat([scores, rubbish], dim=1), labels)


def make_optimizer(how: Optimisation, parameters: list[Any]) -> torch.optim.Optimizer:
    """PyTorch's optimizer of minibatches; what the kernels do is the same."""
    if how.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, how.lr, (0.9, how.beta2), weight_decay=how.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters, how.lr, how.momentum, weight_decay=how.weight_decay, fused=True
    )


MOMENTS = {"sgd": ("momentum_buffer",), "adamw": ("exp_avg", "exp_avg_sq")}


class AutogradEngine:
    """Steps by PyTorch's autograd and optimizers."""

    name = "autograd"

    def __init__(
        self,
        recipe: Recipe,
        architecture: Architecture,
        train: Split,
        weights: Flat,
        device: str,
        world: World = ALONE,
    ) -> None:
        self.architecture, self.world = architecture, world
        self.objective, self.how = recipe.objective, recipe.optimisation
        self.shapes = [parameter.shape for parameter in architecture.parameters]
        self.model = self.module(weights).to(device)
        self.average = self.module(weights).to(device) if self.how.averaging else None
        self.parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(self.how, self.parameters)
        self.update_average = get_ema_multi_avg_fn(self.how.averaging)
        self.device = torch.device(device)
        self.basis = torch.from_numpy(spline_basis(train.images.shape[1])).to(device)
        self.resumed = False
        self.images = torch.from_numpy(train.images).to(device)
        self.labels = torch.from_numpy(train.labels).to(device)

    def module(self, weights: Flat) -> Any:
        names = [parameter.name for parameter in self.architecture.parameters]
        arrays = dict(zip(names, views(weights, self.shapes), strict=True))
        return from_architecture(self.architecture, arrays)

    def step(
        self,
        index: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rate: float,
        number: int,
    ) -> tuple[Any, Any]:
        rows = self.world.rows(len(index))
        mine = index[rows]
        if self.resumed and self.how.optimizer == "adamw":
            for parameter in self.parameters:
                self.optimizer.state[parameter]["step"] = torch.tensor(number - 1.0).to(self.device)
        self.resumed = False
        self.model.zero_grad()
        loss, right = torch.zeros(()), torch.zeros(())
        if len(mine):
            taught = None if targets is None else targets[rows]
            batch = self.batch(mine, None if warps is None else warps[rows], taught)
            loss, right = self.backward(**batch)
        if self.world.size > 1:
            loss, right = self.add_up(loss, right, len(mine) / len(index))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.update()
        return loss, right

    def batch(
        self,
        index: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
    ) -> dict[str, Tensor]:
        """The arguments of `backward` on the device."""
        arrays = {"index": index, "targets": targets, **(vars(warps) if warps else {})}
        return {name: self.on_device(a) for name, a in arrays.items() if a is not None}

    def backward(
        self, index: Tensor, targets: Tensor | None = None, **warps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and number right of a batch; its gradients are in the parameters."""
        images, labels = self.images[index], self.labels[index]
        if warps:
            images = warp_on_device(images, basis=self.basis, **warps)
        answers = self.model(self.model.prepare(images))
        loss = loss_of(self.objective, answers, labels, targets)
        loss.backward()
        return loss.detach(), (answers.argmax(dim=1) == labels).sum()

    def add_up(self, loss: Tensor, right: Tensor, share: float) -> tuple[float, int]:
        """Makes the gradients, the loss and the number right those of all processes."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = [*(g.flatten() for g in gradients), loss.to(self.device)[None]]
        sums = np.zeros(sum(gradient.numel() for gradient in flat) + 1, np.float32)
        sums[:-1], sums[-1] = share * torch.cat(flat).cpu().numpy(), float(right)
        self.world.add_up(sums)
        parts = views(sums[:-2], self.shapes)
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = self.on_device(part)
        return float(sums[-2]), int(sums[-1])

    def update(self) -> None:
        self.optimizer.step()
        if self.average is not None:
            self.update_average(tuple(self.average.parameters()), tuple(self.parameters), 0)

    def on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        mine = images[self.world.rows(len(images))]
        return self.world.gather(scores(self.average or self.model, mine))

    def state(self) -> dict[str, Flat]:
        state = {"weights": flat_parameters(self.model)}
        if self.average is not None:
            state["average"] = flat_parameters(self.average)
        if names := self.moment_names():
            zeros = [np.zeros(shape, np.float32) for shape in self.shapes]
            state["moments"] = np.stack(
                [
                    flatten(
                        self.optimizer.state[p][name].cpu().numpy()
                        if name in self.optimizer.state[p]
                        else zero
                        for p, zero in zip(self.parameters, zeros, strict=True)
                    )
                    for name in names
                ]
            )
        return state

    def moment_names(self) -> tuple[str, ...]:
        plain = self.how.optimizer == "sgd" and not self.how.momentum
        return () if plain else MOMENTS[self.how.optimizer]

    def restore(self, state: Mapping[str, Flat]) -> None:
        require_fit(state, self.state())
        self.resumed = True
        self.load(self.model, state["weights"])
        if self.average is not None:
            self.load(self.average, state["average"])
        for row, name in enumerate(self.moment_names()):
            parts = views(state["moments"][row], self.shapes)
            for parameter, part in zip(self.parameters, parts, strict=True):
                self.optimizer.state[parameter][name] = self.on_device(part.copy())

    def load(self, model: Any, weights: Flat) -> None:
        with torch.no_grad():
            parts = views(weights, self.shapes)
            for parameter, part in zip(model.parameters(), parts, strict=True):
                parameter.copy_(torch.from_numpy(part))


def capture_graph(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph; it is recorded, not executed."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class GraphEngine(AutogradEngine):
    """The same, with all of a step captured as one CUDA graph. Never measured on a GPU so far.

    A LeNet step is dozens of kernels of a few microseconds each; started one by one they would wait
    for Python.
    """

    name = "graph"

    def __init__(
        self,
        recipe: Recipe,
        architecture: Architecture,
        train: Split,
        weights: Flat,
        device: str,
        world: World = ALONE,
        capture: Callable[[Callable[[], None]], Callable[[], None]] = capture_graph,
    ) -> None:
        super().__init__(recipe, architecture, train, weights, device, world)
        if capture is capture_graph and self.device.type != "cuda":
            raise LenetError(f"the engine graph needs a CUDA device, not {device}")
        if world.size > 1:
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

    def step(
        self,
        index: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rate: float,
        number: int,
    ) -> tuple[Any, Any]:
        if len(index) < self.how.batch_size or self.warm_steps < WARM_UP or self.resumed:
            self.warm_steps += len(index) == self.how.batch_size
            results = super().step(index, warps, targets, rate, number)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
            return results
        self.rate.fill_(rate)
        batch = self.batch(index, warps, targets)
        if self.replay is None:
            self.inputs = batch
            self.model.zero_grad(set_to_none=True)  # the graph's gradients have their own memory
            self.replay = self.capture(self.captured_step)
        for name, tensor in batch.items():
            self.inputs[name].copy_(tensor)
        self.replay()
        return self.results[0].clone(), self.results[1].clone()

    def captured_step(self) -> None:
        self.model.zero_grad()
        self.results = self.backward(**self.inputs)
        self.update()


def flat_parameters(model: Any) -> Flat:
    return flatten(parameter.detach().cpu().numpy() for parameter in model.parameters())


def has_cuda() -> bool:
    return torch.cuda.is_available()


def check_device(name: str, world: World) -> str:
    """The device of that name for this process.

    Raises:
        LenetError: there is no such device here, or processes cannot share it.
    """
    try:
        device = torch.device(name)
        if world.size > 1 and device.type == "cuda":
            device = torch.device("cuda", world.local_rank)
        torch.ones(1, device=device).item()  # some names that PyTorch knows hold no numbers
    except (RuntimeError, AssertionError) as error:
        raise LenetError(f"no device {name!r} here: {str(error).splitlines()[0]}") from None
    if world.size > 1 and device.type not in ("cpu", "cuda"):
        raise LenetError(f"processes share CPUs or CUDA devices, not {device}: use --device")
    return str(device)
