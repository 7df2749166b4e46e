"""The stages of language training, each from the files of the ones before: generated questions to a whole tower."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.training.answer_vocabulary import AnswerVocabulary
from mobile_multimodal.training.choosing import ChoiceBatches, ChoiceObjective, ChooserDev, ChooserMean
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
from mobile_multimodal.training.language_sets import OPTIONS, SPLITS
from mobile_multimodal.training.language_text import TextStates, WordPieces
from mobile_multimodal.training.language_tower import write_tower
from mobile_multimodal.training.minilm import MiniLM
from mobile_multimodal.training.picture_features import cache_name
from mobile_multimodal.training.pooled_chooser import PooledChooser
from mobile_multimodal.training.popularity import popularity_weights
from mobile_multimodal.training.question_batches import QuestionMix
from mobile_multimodal.training.question_calibration import calibrate_heads
from mobile_multimodal.training.question_dev import HEADLINE as ANSWERS_HEADLINE
from mobile_multimodal.training.question_dev import QuestionDev
from mobile_multimodal.training.question_objectives import QuestionImitation, QuestionObjective
from mobile_multimodal.training.retrieval_dev import HEADLINE as RETRIEVAL_HEADLINE
from mobile_multimodal.training.retrieval_dev import RetrievalDev
from mobile_multimodal.training.retrieval_objectives import ContrastiveObjective, Ensemble, RetrievalImitation
from mobile_multimodal.training.shared_layers import HEADLINE as SHARED_HEADLINE
from mobile_multimodal.training.shared_layers import StatesDev, StatesObjective, TextBatches
from mobile_multimodal.training.stage_names import LANGUAGE_STAGES
from mobile_multimodal.training.tower_from_file import FileTower
from mobile_multimodal.training.trainer import Trainer, TrainSettings, is_finished

STUDENT, TWIN = "student", "twin"
_TOWERS = {STUDENT: "language.pt", TWIN: "twin.pt"}


class LanguageStages:
    """Runs stages on the data sets in `data`; files go to `out`, a stage whose result is there resumes or skips.

    encode makes the image encoder; `stamps` is the folder of Tux Paint's stamps, without which their pictures are left
    out; `start` is a model file whose tower gives its shared layers and all of retrieval, and whose question model is
    tuned.
    """

    def __init__(
        self,
        data: Path,
        out: Path,
        recipe: LanguageRecipe,
        encode: Callable[[], Encode],
        stamps: Path,
        start: Path | None = None,
    ) -> None:
        self._data, self._out, self._recipe, self._encode = data, out, recipe, encode
        self._stamps, self._start = stamps, start
        self._material = LanguageMaterial(data, out, recipe)

    def run(self, stage: str) -> None:
        """Runs one of LANGUAGE_STAGES."""
        if stage not in LANGUAGE_STAGES:
            raise InvalidInputError(f"stage '{stage}' is unknown", hint=f"choose one of {', '.join(LANGUAGE_STAGES)}")
        # What a stage draws does not depend on the stages that ran before it.
        torch.manual_seed(self._recipe.seed)
        if self._start is not None:
            self._take_answers()
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
        if self._start is not None:
            self._take("shared", SharedText(self._config))
            return
        model = SharedText(self._config)
        self._minilm.fill_shared(model)
        freeze_tables(model)
        data = TextBatches(self._material.texts("train"), self._pieces)
        objective = StatesObjective(self._float_text, self._recipe.earlier_layers_share)
        evaluate = StatesDev(self._float_text, self._material.texts("dev"), self._pieces)
        folder = self._out / "shared"
        Trainer(model, data, objective, settings, evaluate, folder, save_part, headline=SHARED_HEADLINE).run()

    def _take(self, name: str, model: SharedText | RetrievalModel) -> None:
        """Saves a part of the file that training starts from as its stage would leave it."""
        path = self._out / name / "model.pt"
        if not path.is_file():
            self._file_tower.fill(model)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_part(path, model, {"from": self._file_tower.name})

    def _take_answers(self) -> None:
        """The answers of the file that training starts from: its question model has one row for each."""
        path, answers = self._material.answers_path, self._file_tower.answers
        if not path.is_file():
            AnswerVocabulary(answers).save(path)
        elif self._material.answers.answers != answers:
            raise InvalidInputError(f"{path} has other answers than {self._start}", hint="choose another --out")

    def _retrieval_teachers(self) -> None:
        recipe = self._recipe
        if self._start is not None:
            return
        hidden, inputs = recipe.teacher_dropout
        for number in range(recipe.retrieval_teachers):
            name, settings = _teacher_name(number), recipe.teacher_settings(number)
            if self._is_done(name, settings):
                continue
            torch.manual_seed(settings.seed)
            model = RetrievalModel(twin_config(self._config), hidden)
            objective = ContrastiveObjective(self._float_states, inputs)
            self._train_retrieval(name, model, objective, settings, self._float_states, recipe.sentences_share)

    def _retrieval(self) -> None:
        settings, (hidden, inputs) = self._recipe.retrieval_settings(), self._recipe.retrieval_dropout
        if self._start is None and not self._is_done("retrieval", settings):
            first = self._load(_teacher_name(0), "retrieval-teachers").state_dict
            model = start_from_twin(RetrievalModel(twin_config(self._config), hidden), first)
            self._imitate_retrieval("retrieval", model, settings, self._float_states, inputs)

    def _retrieval_student(self) -> None:
        recipe, settings = self._recipe, self._recipe.retrieval_student_settings()
        if self._start is not None:
            self._take("retrieval-student", RetrievalModel(self._config))
        elif not self._is_done("retrieval-student", settings):
            hidden, inputs = recipe.retrieval_student_dropout
            twin = self._load("retrieval").state_dict
            model = start_from_twin(RetrievalModel(self._config, hidden), twin)
            self._imitate_retrieval("retrieval-student", model, settings, self._low_states, inputs)

    def _imitate_retrieval(
        self, name: str, model: RetrievalModel, settings: TrainSettings, states: TextStates, inputs_dropout: float
    ) -> None:
        config, recipe = twin_config(self._config), self._recipe
        names = [_teacher_name(number) for number in range(recipe.retrieval_teachers)]
        models = [self._load(known, "retrieval-teachers").fill(RetrievalModel(config)) for known in names]
        teacher = Ensemble(models)
        self._float_states.add(self._material.retrieval_texts())
        objective = RetrievalImitation(ContrastiveObjective(states, inputs_dropout), teacher, self._float_states)
        self._train_retrieval(name, model, objective, settings, states, recipe.imitated_sentences_share)

    def _train_retrieval(
        self,
        name: str,
        model: RetrievalModel,
        objective: ContrastiveObjective | RetrievalImitation,
        settings: TrainSettings,
        states: TextStates,
        sentences_share: float,
    ) -> None:
        material = self._material
        states.add(material.retrieval_texts())
        evaluate = RetrievalDev(material.sets.captions("dev"), material.pictures("dev"), states)
        data, folder = material.pairs(sentences_share), self._out / name
        Trainer(model, data, objective, settings, evaluate, folder, save_part, headline=RETRIEVAL_HEADLINE).run()

    def _answers(self) -> None:
        if self._start is None:
            self._train_twin_answers("answers", sees_pictures=True)

    def _question_only(self) -> None:
        if self._start is None:
            self._train_twin_answers("question-only", sees_pictures=False)

    def _choosers(self) -> None:
        if self._start is None:
            return
        recipe, material, states = self._recipe, self._material, self._low_states
        for number in range(recipe.choosers):
            name, settings = _chooser_name(number), recipe.chooser_settings(number)
            if self._is_done(name, settings):
                continue
            states.add([pair for split in SPLITS for q in material.choices(split) for pair in q.pairs])
            torch.manual_seed(settings.seed)
            model = PooledChooser(twin_config(self._config), recipe.chooser_hidden, recipe.chooser_dropout)
            model.fit_texts(states.means([pair for question in material.choices("train") for pair in question.pairs]))
            data = ChoiceBatches(material.pictures("train"), states, material.choices("train"))
            dev = ChooserDev(ChoiceBatches(material.pictures("dev"), states, material.choices("dev")))
            objective, folder = ChoiceObjective(recipe.options_smoothing), self._out / name
            Trainer(model, data, objective, settings, dev, folder, save_part, headline=ANSWERS_HEADLINE).run()

    def _train_twin_answers(self, name: str, sees_pictures: bool) -> None:
        recipe, settings = self._recipe, self._recipe.answers_settings()
        if self._is_done(name, settings):
            return
        model = QuestionModel(twin_config(self._config), len(self._material.answers), recipe.answers_dropout)
        objective = QuestionObjective(
            self._float_states, recipe.loss_weights, recipe.answers_noise, sees_pictures, recipe.options_smoothing
        )
        self._train_answers(name, model, objective, settings, self._float_states, sees_pictures)

    def _answers_student(self) -> None:
        recipe = self._recipe
        settings = recipe.answers_student_settings() if self._start is None else recipe.choices_settings()
        if self._is_done("answers-student", settings):
            return
        if self._start is not None:
            first = self._load("shapes-student").fill(QuestionModel(self._config, len(self._material.answers)))
            self._tune_answers("answers-student", first, settings, recipe.choices_mix, recipe.choices_plain_share)
            return
        twin, answers = self._load("answers"), len(self._material.answers)
        model = start_from_twin(QuestionModel(self._config, answers, recipe.student_dropout), twin.state_dict)
        teacher = twin.fill(QuestionModel(twin_config(self._config), answers))
        self._float_states.add(self._material.question_texts())
        plain = QuestionObjective(self._low_states, recipe.loss_weights)
        objective = QuestionImitation(plain, teacher, self._float_states, recipe.plain_share, recipe.untaught)
        self._train_answers("answers-student", model, objective, settings, self._low_states)

    def _shapes_student(self) -> None:
        recipe, settings = self._recipe, self._recipe.shapes_settings()
        if self._start is None or self._is_done("shapes-student", settings):
            return
        first = self._file_tower.fill(QuestionModel(self._config, len(self._material.answers)))
        self._tune_answers("shapes-student", first, settings, recipe.shapes_mix, recipe.plain_share)

    def _tune_answers(
        self, name: str, first: QuestionModel, settings: TrainSettings, mix: QuestionMix, plain_share: float
    ) -> None:
        """Goes on from `first`: choosers teach choices, shapes their own answers, the file keeps the rest as it is."""
        recipe, answers, states = self._recipe, len(self._material.answers), self._low_states
        model = QuestionModel(self._config, answers, recipe.student_dropout)
        model.load_state_dict(first.state_dict())
        teacher = self._file_tower.fill(QuestionModel(self._config, answers))
        parts = [self._load(_chooser_name(number), "choosers") for number in range(recipe.choosers)]
        choosers = [part.fill(PooledChooser(part.config, recipe.chooser_hidden)) for part in parts]
        plain = QuestionObjective(states, recipe.loss_weights, recipe.tuning_noise)
        choosing = ChooserMean(choosers, states)
        objective = QuestionImitation(
            plain, teacher, states, plain_share, recipe.untaught, choosing, recipe.foreign_share
        )
        self._train_answers(name, model, objective, settings, states, mix=mix)

    def _train_answers(
        self,
        name: str,
        model: QuestionModel,
        objective: QuestionObjective | QuestionImitation,
        settings: TrainSettings,
        states: TextStates,
        sees_pictures: bool = True,
        mix: QuestionMix | None = None,
    ) -> None:
        material, folder = self._material, self._out / name
        states.add(material.question_texts())
        sets, pictures = material.dev_questions(), material.pictures("dev")
        evaluate = QuestionDev(sets, pictures, states, material.answers, sees_pictures)
        data = material.questions(states, mix or self._recipe.mix)
        Trainer(model, data, objective, settings, evaluate, folder, save_part, headline=ANSWERS_HEADLINE).run()

    def _calibration(self) -> None:
        # The weights that the temperatures are for: trained anew, they need new ones.
        stages = {STUDENT: "answers-student", TWIN: "answers"}
        if self._start is not None:
            del stages[TWIN]
        digests = {kind: self._load(stage).digest for kind, stage in stages.items()}
        if self._calibration_path.is_file():
            known = json.loads(self._calibration_path.read_text(encoding="utf-8"))
            if {kind: found["weights"] for kind, found in known.items()} == digests:
                tqdm.write("calibration: done")
                return
        answers, figures = len(self._material.answers), {}
        for kind in stages:
            is_student = kind == STUDENT
            config = self._config if is_student else twin_config(self._config)
            states = self._low_states if is_student else self._float_states
            model = self._load(stages[kind]).fill(QuestionModel(config, answers))
            heads = {head: asdict(found) for head, found in calibrate_heads(model, states, self._material).items()}
            figures[kind] = {"weights": digests[kind], "heads": heads}
            for head, found in heads.items():
                tqdm.write(f"calibration, {kind}, {head}: " + ", ".join(f"{key} {found[key]}" for key in found))
        self._calibration_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    def _tower(self) -> None:
        if not self._calibration_path.is_file():
            raise NotFoundError(f"{self._calibration_path} is not there", hint="run --stage calibration first")
        calibration = json.loads(self._calibration_path.read_text(encoding="utf-8"))
        for kind, parts in self._tower_parts().items():
            temperatures = {head: float(found["temperature"]) for head, found in calibration[kind]["heads"].items()}
            write_tower(
                self._out / _TOWERS[kind],
                parts,
                temperatures,
                self._minilm.vocabulary,
                self._material.answers.answers,
                {"seed": self._recipe.seed, "effort": self._recipe.effort, "calibration": calibration[kind]},
            )

    def _tower_parts(self) -> dict[str, dict[str, Part]]:
        """The parts of the student and of its twin; where retrieval comes from a file, there is no twin of it."""
        student = {
            "shared": self._load("shared"),
            "retrieval": self._load("retrieval-student"),
            "answers": self._load("answers-student"),
        }
        if self._start is not None:
            return {STUDENT: _joined(student, self._file_tower.popularity(), {"from": self._file_tower.name})}
        twin = {
            "shared": Part(twin_config(self._config), self._float_text.state_dict(), {"from": "MiniLM-L6"}),
            "retrieval": self._load("retrieval"),
            "answers": self._load("answers"),
        }
        return {
            STUDENT: self._with_popularity(student, self._low_text),
            TWIN: self._with_popularity(twin, self._float_text),
        }

    def _with_popularity(self, parts: dict[str, Part], text: SharedText) -> dict[str, Part]:
        """The parts, and what retrieval knows of popular pictures; all of one shape."""
        material, retrieval = self._material, parts["retrieval"]
        # States of their own: what other stages left was computed in other batches and differs in its last bits.
        states = TextStates(text, self._pieces)
        states.add([caption for found in material.sets.captions("train").values() for caption in found])
        # Pictures of another set, without captions: those of training are nearer to them than new ones.
        ordinary = sorted({question.picture for question in material.sets.questions(OPTIONS, "train")})
        captions, model = material.sets.captions("train"), retrieval.fill(RetrievalModel(retrieval.config))
        weights = popularity_weights(model, states, captions, material.pictures("train"), ordinary)
        return _joined(parts, weights, {"ordinary": OPTIONS})

    @property
    def _calibration_path(self) -> Path:
        return self._out / "calibration.json"

    @cached_property
    def _minilm(self) -> MiniLM:
        return MiniLM()

    @cached_property
    def _file_tower(self) -> FileTower:
        """The tower of the model file that training starts from."""
        if self._start is None:
            raise InvalidInputError("training starts from no model file", hint="pass one with --start")
        return FileTower(self._start)

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
    def _low_text(self) -> SharedText:
        return self._load("shared").fill(SharedText(self._config))

    @cached_property
    def _low_states(self) -> TextStates:
        return TextStates(self._low_text, self._pieces)

    def _load(self, name: str, stage: str = "") -> Part:
        """The part in a folder of `out`, by the stage that makes it, whose name the folder has as a rule."""
        return load_part(self._out / name / "model.pt", stage or name)

    def _is_done(self, name: str, settings: TrainSettings) -> bool:
        """Says so as well: a finished stage spares the reading of its texts and pictures."""
        is_done = is_finished(self._out / name, settings)
        if is_done:
            tqdm.write(f"{name}: done")
        return is_done


def _joined(parts: dict[str, Part], popularity: dict[str, Tensor], meta: dict[str, str]) -> dict[str, Part]:
    """The parts, and what is known of popular pictures; all of one shape."""
    config = replace(parts["retrieval"].config, popularity_rows=len(popularity["popularity.weight"]))
    made = {**parts, "popularity": Part(config, popularity, meta)}
    return {name: replace(part, config=config) for name, part in made.items()}


def _teacher_name(number: int) -> str:
    return f"retrieval-teacher-{number}"


def _chooser_name(number: int) -> str:
    return f"chooser-{number}"
