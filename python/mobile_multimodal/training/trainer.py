"""Runs rounds of training: steps, schedule, evaluation on dev, checkpoint, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.quantization.linear import QuantizedLinear
from mobile_multimodal.training.checkpoint import write_atomically
from mobile_multimodal.training.dropout import ByteDropout
from mobile_multimodal.training.metrics_log import MetricsLog, figure_of

ModelT = TypeVar("ModelT", bound=nn.Module)
Model_contra = TypeVar("Model_contra", bound=nn.Module, contravariant=True)
BatchT = TypeVar("BatchT")
Batch_co = TypeVar("Batch_co", covariant=True)
Batch_contra = TypeVar("Batch_contra", contravariant=True)


class BatchSource(Protocol[Batch_co]):
    """What a training run passes over."""

    def __len__(self) -> int:
        """Entries of one pass."""

    def batches(self, size: int, random: np.random.Generator) -> Iterator[Batch_co]:
        """One pass in random order, `size` entries a batch; at least one batch."""


class Objective(Protocol[Model_contra, Batch_contra]):
    """What a step minimises."""

    def loss(self, model: Model_contra, batch: Batch_contra) -> tuple[Tensor, float]:
        """The loss to differentiate, and the figure to log for it."""


class Scores(Protocol):
    """Figures of a model on dev."""

    def as_dict(self) -> dict[str, Any]:
        """By name, for JSON."""


# Writes a model with what is known of it to a file.
Save = Callable[[Path, ModelT, dict[str, Any]], None]


@dataclass(frozen=True)
class TrainSettings:
    """One stage. A round is `steps_per_round` steps, or one pass over the data when that is 0."""

    rounds: int
    learning_rate: float
    batch_size: int = 32
    steps_per_round: int = 0
    warmup_steps: int = 200
    final_rate: float = 0.03
    weight_decay: float = 0.05
    # Adam moves a scale by about the learning rate, whatever its size: scales (~0.03) need smaller steps.
    scale_rate: float = 0.1
    clip_norm: float = 1.0
    # Score and save the mean of the weights before the first round and after each (Izmailov et al., arXiv 1803.05407):
    # self-critical steps are noisy, and their mean is better on new pictures than any of them.
    average_rounds: bool = False
    # Save the round with the best figure on dev instead of the last one; higher is better.
    keep_best: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.learning_rate <= 0 or self.batch_size < 1:
            raise InvalidInputError(f"{self} cannot train", hint="rounds, learning rate and batch must be positive")


def parameter_groups(model: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Matrices decay, unless they are quantized (the scale would follow); norms do not; scales move slowly.

    Frozen parameters are left out.
    """
    scales = [m.scale for m in model.modules() if isinstance(m, QuantizedLinear) and m.scale is not None]
    low_bit = {id(m.weight) for m in model.modules() if isinstance(m, QuantizedLinear)}
    known = {id(parameter) for parameter in scales}
    rest = [p for p in model.parameters() if id(p) not in known and p.requires_grad]
    groups = [
        {
            "params": [p for p in rest if p.ndim > 1 and id(p) not in low_bit],
            "weight_decay": settings.weight_decay,
            "rate": 1.0,
        },
        {"params": [p for p in rest if p.ndim <= 1 or id(p) in low_bit], "weight_decay": 0.0, "rate": 1.0},
        {"params": [p for p in scales if p.requires_grad], "weight_decay": 0.0, "rate": settings.scale_rate},
    ]
    return [group for group in groups if group["params"]]


def is_finished(folder: Path, settings: TrainSettings) -> bool:
    """Whether a run of the same settings has left nothing to do in the folder."""
    state = _read_state(folder / "resume.pt", settings)
    return state is not None and int(state["rounds_done"]) >= settings.rounds


def _read_state(path: Path, settings: TrainSettings) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != asdict(settings):
        raise InvalidInputError(f"{path} belongs to other settings", hint="choose another --out, or delete it")
    return state


class Trainer(Generic[ModelT, BatchT]):
    """Trains `model` on `data` towards an objective; everything it writes goes to `folder`.

    headline: the name of the figure among `evaluate`'s that is drawn, printed and, with `keep_best`, decides.
    """

    def __init__(
        self,
        model: ModelT,
        data: BatchSource[BatchT],
        objective: Objective[ModelT, BatchT],
        settings: TrainSettings,
        evaluate: Callable[[ModelT], Scores],
        folder: Path,
        save: Save[ModelT],
        headline: str,
    ) -> None:
        self._model, self._data, self._objective, self._settings = model, data, objective, settings
        self._evaluate, self._folder, self._write_model, self._headline = evaluate, folder, save, headline
        groups = parameter_groups(model, settings)
        self._optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
        self._steps_per_round = settings.steps_per_round or math.ceil(len(data) / settings.batch_size)
        self._mean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self._best = -math.inf
        self._rounds_done = self._resume()
        self._log = MetricsLog(folder, headline, self._rounds_done)

    @property
    def _resume_path(self) -> Path:
        return self._folder / "resume.pt"

    def _resume(self) -> int:
        """Rounds done by an interrupted run of the same settings, whose state is taken over; else 0."""
        state = _read_state(self._resume_path, self._settings)
        if state is None:
            return 0
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._mean, self._best = state["mean"], state["best"]
        return int(state["rounds_done"])

    def _rate(self, step: int) -> float:
        settings = self._settings
        total = settings.rounds * self._steps_per_round
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / total))
        warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        return warm * (settings.final_rate + (1 - settings.final_rate) * cosine)

    def _batches(self, round_number: int) -> Iterator[BatchT]:
        """Batches of one round; a long round passes over the data again."""
        random = np.random.default_rng([self._settings.seed, round_number])
        left = self._steps_per_round
        while left > 0:
            for batch in self._data.batches(self._settings.batch_size, random):
                yield batch
                left -= 1
                if left == 0:
                    return

    def run(self) -> Scores | None:
        """Trains the rounds that are left; the scores of the last one, None when nothing was left."""
        scores = None
        for round_number in range(self._rounds_done + 1, self._settings.rounds + 1):
            # Seeds depend on the round alone: a resumed run draws what an unbroken one draws.
            torch.manual_seed(self._settings.seed * 1000 + round_number)
            for module in self._model.modules():
                if isinstance(module, ByteDropout):
                    module.reseed(self._settings.seed * 1000 + round_number)
            started = time.monotonic()
            figure = self._train_round(round_number)
            trained = time.monotonic()
            weights = self._enter_mean(round_number)
            scores = self._evaluate(self._model)
            record = {
                "round": round_number,
                "steps": round_number * self._steps_per_round,
                "loss": figure,
                "train_seconds": round(trained - started, 1),
                "evaluate_seconds": round(time.monotonic() - trained, 1),
                **scores.as_dict(),
            }
            self._log.append(record)
            reached = figure_of(record, self._headline)
            tqdm.write(f"{self._folder.name} round {round_number}: {figure:.4f}, {self._headline} {reached:.4f}")
            self._save(round_number, record, weights)
            self._model.load_state_dict(weights)
        return scores

    def _enter_mean(self, round_number: int) -> dict[str, Tensor]:
        """Puts the weights to score and save into the model; returns those that training goes on with."""
        weights = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
        share = 1 / (round_number + 1) if self._settings.average_rounds else 1.0
        for name, mean in self._mean.items():
            mean.lerp_(weights[name], share)
        self._model.load_state_dict(self._mean)
        return weights

    def _train_round(self, round_number: int) -> float:
        model, optimizer = self._model, self._optimizer
        model.train()
        figures = []
        step = (round_number - 1) * self._steps_per_round
        bar = tqdm(
            self._batches(round_number),
            total=self._steps_per_round,
            desc=f"{self._folder.name} {round_number}/{self._settings.rounds}",
            mininterval=5,
        )
        for batch in bar:
            for group in optimizer.param_groups:
                group["lr"] = self._settings.learning_rate * group["rate"] * self._rate(step)
            loss, figure = self._objective.loss(model, batch)
            if not math.isfinite(figure):
                raise InvalidInputError(f"the loss is {figure} at step {step}", hint="lower the learning rate")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), self._settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            figures.append(figure)
            bar.set_postfix(figure=f"{np.mean(figures[-50:]):.4f}", refresh=False)
            step += 1
        return float(np.mean(figures))

    def _save(self, round_number: int, record: dict[str, Any], weights: dict[str, Tensor]) -> None:
        reached = figure_of(record, self._headline)
        if not self._settings.keep_best or reached > self._best:
            meta = {"settings": asdict(self._settings), **record}
            self._write_model(self._folder / "model.pt", self._model, meta)
        self._best = max(self._best, reached)
        state = {
            "settings": asdict(self._settings),
            "rounds_done": round_number,
            "model": weights,
            "mean": self._mean,
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
        }
        write_atomically(self._resume_path, state)
