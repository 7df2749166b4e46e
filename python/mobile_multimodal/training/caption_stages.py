"""The stages of caption training, each from the files of the one before: features to 2-bit student."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.images import FILE_SUFFIXES
from mobile_multimodal.training.caption_data import CaptionBatch, CaptionSet, PictureBatches, TakingTurns, UnlabelledSet
from mobile_multimodal.training.caption_model import CaptionModel, initialise
from mobile_multimodal.training.caption_recipe import CaptionRecipe
from mobile_multimodal.training.caption_text import normal_form, train_tokenizer
from mobile_multimodal.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mobile_multimodal.training.dev_evaluation import DevEvaluation
from mobile_multimodal.training.features import Encode, FeatureCache, build_cache
from mobile_multimodal.training.objectives import (
    ImitationObjective,
    SelfCriticalObjective,
    SupervisedObjective,
)
from mobile_multimodal.training.rewards import CiderReward
from mobile_multimodal.training.stage_names import STAGES
from mobile_multimodal.training.student import student_from_teacher
from mobile_multimodal.training.trainer import Objective, Trainer, TrainSettings

# Captions of pictures in no split serve training.
TRAIN_SPLITS = ("train", "extra")


def find_pictures(folder: Path) -> list[Path]:
    """Picture files in a folder and its folders, in order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILE_SUFFIXES)
    if not paths:
        raise InvalidInputError(f"{folder} holds no pictures", hint=f"expected files {' '.join(FILE_SUFFIXES)}")
    return paths


class CaptionStages:
    """Runs stages on the data set in `data`; files go to `out`, a stage whose result is there resumes or skips.

    `unlabelled` is a folder of pictures without captions, on which the student imitates its teacher as well.
    """

    def __init__(
        self,
        data: Path,
        out: Path,
        recipe: CaptionRecipe,
        encode: Callable[[], Encode],
        unlabelled: Path | None = None,
    ) -> None:
        self._data, self._out, self._recipe, self._encode = data, out, recipe, encode
        self._unlabelled = unlabelled

    def run(self, stage: str) -> None:
        """Runs one of STAGES."""
        if stage not in STAGES:
            raise InvalidInputError(f"stage '{stage}' is unknown", hint=f"choose one of {', '.join(STAGES)}")
        getattr(self, f"_{stage}")()

    def _features(self) -> None:
        encode = self._encode()
        for split, names, views in (
            ("train", list(self._captions), self._recipe.views),
            ("dev", list(self._references), 1),
        ):
            pictures = [self._data / "images" / name for name in names]
            build_cache(self._out / "features", split, pictures, views, encode)
        if self._unlabelled is not None:
            pictures = find_pictures(self._unlabelled)
            build_cache(self._out / "features", "unlabelled", pictures, self._recipe.unlabelled_views, encode)

    def _tokenizer(self) -> None:
        texts = (normal_form(text) for captions in self._captions.values() for text in captions)
        tokenizer = train_tokenizer(texts, self._recipe.student.vocab_size)
        self._out.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(self._tokenizer_path))

    def _teacher(self) -> None:
        recipe = self._recipe
        model = CaptionModel(recipe.teacher_config, recipe.dropout, recipe.seed)
        initialise(model)
        self._train(model, SupervisedObjective(recipe.smoothing), recipe.teacher_settings(), "teacher")

    def _reinforced(self) -> None:
        # With dropout: self-critical training overfits without (docs/experiments/0003).
        model = self._load("teacher").build_model(self._recipe.dropout, self._recipe.seed)
        objective = SelfCriticalObjective(CiderReward(self._training_set.texts), self._loaded_tokenizer)
        self._train(model, objective, self._recipe.reinforced_settings(), "reinforced")

    def _student(self) -> None:
        recipe, teacher = self._recipe, self._load("reinforced")
        model = student_from_teacher(teacher, recipe.student, seed=recipe.seed)
        data: PictureBatches = self._training_set
        if self._unlabelled is not None:
            cache = FeatureCache(self._out / "features", "unlabelled", recipe.unlabelled_views)
            data = TakingTurns(data, UnlabelledSet(cache))
        self._train(model, ImitationObjective(teacher.build_model()), recipe.student_settings(), "student", data)

    @property
    def _tokenizer_path(self) -> Path:
        return self._out / "tokenizer.json"

    @cached_property
    def _captions(self) -> dict[str, list[str]]:
        return read_captions(self._data, TRAIN_SPLITS)

    @cached_property
    def _references(self) -> dict[str, list[str]]:
        return read_captions(self._data, ["dev"])

    @cached_property
    def _loaded_tokenizer(self) -> Tokenizer:
        if not self._tokenizer_path.is_file():
            raise InvalidInputError(f"{self._tokenizer_path} is not there", hint="run --stage tokenizer first")
        return Tokenizer.from_file(str(self._tokenizer_path))

    @cached_property
    def _training_set(self) -> CaptionSet:
        cache = FeatureCache(self._out / "features", "train", self._recipe.views)
        return CaptionSet(cache, self._captions, self._loaded_tokenizer)

    @cached_property
    def _evaluation(self) -> DevEvaluation:
        cache = FeatureCache(self._out / "features", "dev", 1)
        return DevEvaluation(cache, self._references, self._loaded_tokenizer)

    def _load(self, stage: str) -> Checkpoint:
        path = self._out / stage / "model.pt"
        if not path.is_file():
            raise InvalidInputError(f"{path} is not there", hint=f"run --stage {stage} first")
        return load_checkpoint(path)

    def _train(
        self,
        model: CaptionModel,
        objective: Objective[CaptionModel, CaptionBatch],
        settings: TrainSettings,
        name: str,
        data: PictureBatches | None = None,
    ) -> None:
        Trainer(
            model,
            data or self._training_set,
            objective,
            settings,
            self._evaluation,
            self._out / name,
            self._save,
            headline="cider_d",
        ).run()

    def _save(self, path: Path, model: CaptionModel, meta: dict[str, Any]) -> None:
        save_checkpoint(path, model, self._loaded_tokenizer.to_str(), meta)
