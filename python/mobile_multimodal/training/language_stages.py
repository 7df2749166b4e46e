"""The stages of language training, each from the files of the ones before: generated questions to a whole tower."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from tqdm import tqdm

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.training.features import Encode, build_cache
from mobile_multimodal.training.generated_sets import make_generated_sets
from mobile_multimodal.training.language_material import LanguageMaterial
from mobile_multimodal.training.language_model import LanguageConfig, QuestionModel, RetrievalModel, SharedText
from mobile_multimodal.training.language_parts import (
    Part,
    freeze_tables,
    load_part,
    save_part,
    start_from_twin,
    twin_config,
)
from mobile_multimodal.training.language_recipe import LanguageRecipe
from mobile_multimodal.training.language_sets import SPLITS
from mobile_multimodal.training.language_text import TextStates, WordPieces
from mobile_multimodal.training.language_tower import write_tower
from mobile_multimodal.training.minilm import MiniLM
from mobile_multimodal.training.picture_features import cache_name
from mobile_multimodal.training.question_calibration import calibrate_heads
from mobile_multimodal.training.question_dev import HEADLINE as ANSWERS_HEADLINE
from mobile_multimodal.training.question_dev import QuestionDev
from mobile_multimodal.training.question_objectives import QuestionImitation, QuestionObjective
from mobile_multimodal.training.retrieval_dev import HEADLINE as RETRIEVAL_HEADLINE
from mobile_multimodal.training.retrieval_dev import RetrievalDev
from mobile_multimodal.training.retrieval_objectives import ContrastiveObjective, RetrievalImitation
from mobile_multimodal.training.shared_layers import HEADLINE as SHARED_HEADLINE
from mobile_multimodal.training.shared_layers import StatesDev, StatesObjective, TextBatches
from mobile_multimodal.training.stage_names import LANGUAGE_STAGES
from mobile_multimodal.training.trainer import Trainer, TrainSettings, is_finished

STUDENT, TWIN = "student", "twin"
_TOWERS = {STUDENT: "language.pt", TWIN: "twin.pt"}


class LanguageStages:
    """Runs stages on the data sets in `data`; files go to `out`, a stage whose result is there resumes or skips.

    `stamps` is the folder of Tux Paint's stamps; without it their pictures are left out.
    """

    def __init__(
        self, data: Path, out: Path, recipe: LanguageRecipe, encode: Callable[[], Encode], stamps: Path
    ) -> None:
        self._data, self._out, self._recipe, self._encode, self._stamps = data, out, recipe, encode, stamps
        self._material = LanguageMaterial(data, out, recipe)

    def run(self, stage: str) -> None:
        """Runs one of LANGUAGE_STAGES."""
        if stage not in LANGUAGE_STAGES:
            raise InvalidInputError(f"stage '{stage}' is unknown", hint=f"choose one of {', '.join(LANGUAGE_STAGES)}")
        # What a stage draws does not depend on the stages that ran before it.
        torch.manual_seed(self._recipe.seed)
        getattr(self, f"_{stage.replace('-', '_')}")()

    def _questions(self) -> None:
        make_generated_sets(self._data, self._material.questions_folder, self._stamps, self._recipe.scenes)

    def _features(self) -> None:
        encode, material = self._encode(), self._material
        for source in material.sets.sources():
            for split in SPLITS:
                pictures = material.sets.pictures(source, split)
                views = self._recipe.views[source] if split == "train" else 1
                build_cache(material.features_folder, cache_name(source, split), pictures, views, encode)

    def _shared(self) -> None:
        settings = self._recipe.shared_settings()
        if self._is_done("shared", settings):
            return
        model = SharedText(self._config)
        self._minilm.fill_shared(model)
        freeze_tables(model)
        data = TextBatches(self._material.texts("train"), self._pieces)
        objective = StatesObjective(self._float_text, self._recipe.earlier_layers_share)
        evaluate = StatesDev(self._float_text, self._material.texts("dev"), self._pieces)
        Trainer(
            model, data, objective, settings, evaluate, self._out / "shared", save_part, headline=SHARED_HEADLINE
        ).run()

    def _retrieval(self) -> None:
        recipe, settings = self._recipe, self._recipe.retrieval_settings()
        if self._is_done("retrieval", settings):
            return
        model = RetrievalModel(twin_config(self._config), recipe.retrieval_dropout)
        objective = ContrastiveObjective(self._float_states, recipe.smoothing, recipe.hidden_cells)
        self._train_retrieval("retrieval", model, objective, settings, self._float_states)

    def _retrieval_student(self) -> None:
        settings = self._recipe.retrieval_student_settings()
        if self._is_done("retrieval-student", settings):
            return
        twin = self._load("retrieval")
        model = start_from_twin(RetrievalModel(self._config), twin.state_dict)
        teacher = twin.fill(RetrievalModel(twin_config(self._config)))
        self._float_states.add(self._material.retrieval_texts())
        objective = RetrievalImitation(self._low_states, teacher, self._float_states)
        self._train_retrieval("retrieval-student", model, objective, settings, self._low_states)

    def _train_retrieval(
        self,
        name: str,
        model: RetrievalModel,
        objective: ContrastiveObjective | RetrievalImitation,
        settings: TrainSettings,
        states: TextStates,
    ) -> None:
        material = self._material
        states.add(material.retrieval_texts())
        evaluate = RetrievalDev(material.sets.captions("dev"), material.pictures("dev"), states)
        data = material.pairs()
        Trainer(
            model,
            data,
            objective,
            settings,
            evaluate,
            self._out / name,
            save_part,
            headline=RETRIEVAL_HEADLINE,
        ).run()

    def _answers(self) -> None:
        self._train_twin_answers("answers", sees_pictures=True)

    def _question_only(self) -> None:
        self._train_twin_answers("question-only", sees_pictures=False)

    def _train_twin_answers(self, name: str, sees_pictures: bool) -> None:
        recipe, settings = self._recipe, self._recipe.answers_settings()
        if self._is_done(name, settings):
            return
        model = QuestionModel(twin_config(self._config), len(self._material.answers), recipe.dropout)
        objective = self._plain_objective(self._float_states, sees_pictures)
        self._train_answers(name, model, objective, settings, self._float_states, sees_pictures)

    def _answers_student(self) -> None:
        recipe, settings = self._recipe, self._recipe.answers_student_settings()
        if self._is_done("answers-student", settings):
            return
        twin, answers = self._load("answers"), len(self._material.answers)
        model = start_from_twin(QuestionModel(self._config, answers), twin.state_dict)
        teacher = twin.fill(QuestionModel(twin_config(self._config), answers))
        self._float_states.add(self._material.question_texts())
        objective = QuestionImitation(
            self._plain_objective(self._low_states), self._low_states, teacher, self._float_states, recipe.plain_share
        )
        self._train_answers("answers-student", model, objective, settings, self._low_states)

    def _plain_objective(self, states: TextStates, sees_pictures: bool = True) -> QuestionObjective:
        recipe = self._recipe
        return QuestionObjective(
            states, recipe.loss_weights, sees_pictures=sees_pictures, hidden_cells=recipe.hidden_cells
        )

    def _train_answers(
        self,
        name: str,
        model: QuestionModel,
        objective: QuestionObjective | QuestionImitation,
        settings: TrainSettings,
        states: TextStates,
        sees_pictures: bool = True,
    ) -> None:
        material = self._material
        states.add(material.question_texts())
        evaluate = QuestionDev(
            material.dev_questions(), material.pictures("dev"), states, material.answers, sees_pictures
        )
        Trainer(
            model,
            material.questions(states),
            objective,
            settings,
            evaluate,
            self._out / name,
            save_part,
            headline=ANSWERS_HEADLINE,
        ).run()

    def _calibration(self) -> None:
        answers, figures = len(self._material.answers), {}
        for kind, stage, config, states in (
            (STUDENT, "answers-student", self._config, self._low_states),
            (TWIN, "answers", twin_config(self._config), self._float_states),
        ):
            model = self._load(stage).fill(QuestionModel(config, answers))
            found = calibrate_heads(model, states, self._material)
            figures[kind] = {head: asdict(calibration) for head, calibration in found.items()}
            for head, calibration in found.items():
                tqdm.write(f"calibration of the {kind}: {head}: {calibration}")
        self._calibration_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    def _tower(self) -> None:
        if not self._calibration_path.is_file():
            raise InvalidInputError(f"{self._calibration_path} is not there", hint="run --stage calibration first")
        calibration = json.loads(self._calibration_path.read_text(encoding="utf-8"))
        twin_shared = Part(twin_config(self._config), self._float_text.state_dict(), {"from": "MiniLM-L6"})
        parts: dict[str, dict[str, Part]] = {
            STUDENT: {
                "shared": self._load("shared"),
                "retrieval": self._load("retrieval-student"),
                "answers": self._load("answers-student"),
            },
            TWIN: {"shared": twin_shared, "retrieval": self._load("retrieval"), "answers": self._load("answers")},
        }
        for kind, name in _TOWERS.items():
            temperatures = {head: float(found["temperature"]) for head, found in calibration[kind].items()}
            write_tower(
                self._out / name,
                parts[kind],
                temperatures,
                self._minilm.vocabulary,
                self._material.answers.answers,
                {"seed": self._recipe.seed, "effort": self._recipe.effort, "calibration": calibration[kind]},
            )

    @property
    def _calibration_path(self) -> Path:
        return self._out / "calibration.json"

    @cached_property
    def _minilm(self) -> MiniLM:
        return MiniLM()

    @cached_property
    def _config(self) -> LanguageConfig:
        return self._minilm.config(**self._recipe.shape)

    @cached_property
    def _pieces(self) -> WordPieces:
        return WordPieces(self._minilm.vocabulary, self._config.max_length)

    @cached_property
    def _float_text(self) -> SharedText:
        model = SharedText(twin_config(self._config))
        self._minilm.fill_shared(model)
        return model.eval()

    @cached_property
    def _float_states(self) -> TextStates:
        return TextStates(self._float_text, self._pieces)

    @cached_property
    def _low_states(self) -> TextStates:
        return TextStates(self._load("shared").fill(SharedText(self._config)), self._pieces)

    def _load(self, stage: str) -> Part:
        return load_part(self._out / stage / "model.pt", stage)

    def _is_done(self, name: str, settings: TrainSettings) -> bool:
        """Says so as well: a finished stage spares the reading of its texts and pictures."""
        is_done = is_finished(self._out / name, settings)
        if is_done:
            tqdm.write(f"{name}: done")
        return is_done
