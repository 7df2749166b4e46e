"""Runs rounds of training: steps, schedule, evaluation on dev, checkpoint, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.caption_metrics import CaptionScores
from mobile_multimodal.quantization.linear import QuantizedLinear
from mobile_multimodal.training.caption_data import CaptionBatch, PictureBatches
from mobile_multimodal.training.caption_model import CaptionModel
from mobile_multimodal.training.checkpoint import save_checkpoint, write_atomically
from mobile_multimodal.training.metrics_log import MetricsLog
from mobile_multimodal.training.objectives import Objective

Evaluate = Callable[[CaptionModel], CaptionScores]


@dataclass(frozen=True)
class TrainSettings:
    """One stage. A round is `steps_per_round` steps, or one pass over the pictures when that is 0."""

    rounds: int
    learning_rate: float
    pictures_per_step: int = 32
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
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.learning_rate <= 0 or self.pictures_per_step < 1:
            raise InvalidInputError(f"{self} cannot train", hint="rounds, learning rate and batch must be positive")


def parameter_groups(model: CaptionModel, settings: TrainSettings) -> list[dict[str, Any]]:
    """Matrices decay, unless they are quantized (the scale would follow); norms do not; scales move slowly."""
    scales = [m.scale for m in model.modules() if isinstance(m, QuantizedLinear) and m.scale is not None]
    low_bit = {id(m.weight) for m in model.modules() if isinstance(m, QuantizedLinear)}
    known = {id(parameter) for parameter in scales}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    decayed = [p for p in rest if p.ndim > 1 and id(p) not in low_bit]
    plain = [p for p in rest if p.ndim <= 1 or id(p) in low_bit]
    return [
        {"params": decayed, "weight_decay": settings.weight_decay, "rate": 1.0},
        {"params": plain, "weight_decay": 0.0, "rate": 1.0},
        {"params": scales, "weight_decay": 0.0, "rate": settings.scale_rate},
    ]


class Trainer:
    """Trains `model` on `data` towards an objective; everything it writes goes to `folder`."""

    def __init__(
        self,
        model: CaptionModel,
        data: PictureBatches,
        objective: Objective,
        settings: TrainSettings,
        evaluate: Evaluate,
        folder: Path,
        tokenizer_text: str,
    ) -> None:
        self._model, self._data, self._objective, self._settings = model, data, objective, settings
        self._evaluate, self._folder, self._tokenizer_text = evaluate, folder, tokenizer_text
        groups = [group for group in parameter_groups(model, settings) if group["params"]]
        self._optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
        pass_steps = math.ceil(len(data) / settings.pictures_per_step)
        self._steps_per_round = settings.steps_per_round or pass_steps
        self._mean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self._rounds_done = self._resume()
        self._log = MetricsLog(folder, self._rounds_done)

    @property
    def _resume_path(self) -> Path:
        return self._folder / "resume.pt"

    def _resume(self) -> int:
        """Rounds done by an interrupted run of the same settings, whose state is taken over; else 0."""
        if not self._resume_path.is_file():
            return 0
        state = torch.load(self._resume_path, map_location="cpu", weights_only=True)
        if state["settings"] != asdict(self._settings):
            raise InvalidInputError(
                f"{self._resume_path} belongs to other settings", hint="choose another --out, or delete it"
            )
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._mean = state["mean"]
        return int(state["rounds_done"])

    def _rate(self, step: int) -> float:
        settings = self._settings
        total = settings.rounds * self._steps_per_round
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / total))
        warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        return warm * (settings.final_rate + (1 - settings.final_rate) * cosine)

    def _batches(self, round_number: int) -> Iterator[CaptionBatch]:
        """Batches of one round; a long round passes over the pictures again."""
        random = np.random.default_rng([self._settings.seed, round_number])
        left = self._steps_per_round
        while left > 0:
            for batch in self._data.batches(self._settings.pictures_per_step, random):
                yield batch
                left -= 1
                if left == 0:
                    return

    def run(self) -> CaptionScores | None:
        """Trains the rounds that are left; the scores of the last one, None when nothing was left."""
        scores = None
        for round_number in range(self._rounds_done + 1, self._settings.rounds + 1):
            # Seeds depend on the round alone: a resumed run draws what an unbroken one draws.
            torch.manual_seed(self._settings.seed * 1000 + round_number)
            self._model.drop.reseed(self._settings.seed * 1000 + round_number)
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
            tqdm.write(f"{self._folder.name} round {round_number}: {figure:.4f}, CIDEr-D {scores.cider_d}")
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
        meta = {"settings": asdict(self._settings), **record}
        save_checkpoint(self._folder / "model.pt", self._model, self._tokenizer_text, meta)
        state = {
            "settings": asdict(self._settings),
            "rounds_done": round_number,
            "model": weights,
            "mean": self._mean,
            "optimizer": self._optimizer.state_dict(),
        }
        write_atomically(self._resume_path, state)
