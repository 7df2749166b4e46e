"""Trains decoders of equal file size with an equal budget and scores them: experiment 0002.

    python docs/experiments/compare_decoders.py --work RUN --data FLICKR8K --out OUT SYSTEM

RUN holds `features/` and `tokenizer.json` of `mobile-mm train caption`. The budget is the number of steps, pictures
and captions: the same for all three.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.quantization.export import export_weights
from mobile_multimodal.training.caption_data import CaptionSet
from mobile_multimodal.training.caption_model import CaptionConfig, CaptionModel, initialise
from mobile_multimodal.training.caption_text import normal_form
from mobile_multimodal.training.checkpoint import load_checkpoint
from mobile_multimodal.training.decoding import BeamSettings
from mobile_multimodal.training.dev_evaluation import DevEvaluation
from mobile_multimodal.training.features import FeatureCache
from mobile_multimodal.training.objectives import SupervisedObjective
from mobile_multimodal.training.smollm2 import SmolLM2File, cut_teacher, gguf_path
from mobile_multimodal.training.student import student_from_teacher, twin_config
from mobile_multimodal.training.trainer import Trainer, TrainSettings

# 4 bits halve the weights that fit: 384 wide instead of 512. SmolLM2 is 576 wide: two of its layers fit.
SHAPES = {
    "scratch-2bit": CaptionConfig(layers=3),
    "scratch-4bit": CaptionConfig(layers=3, width=384, heads=6, kv_heads=6, ffn=960, bits=4),
}
SMOLLM2_LAYERS = (0, 29)


def packed_bytes(model: CaptionModel) -> int:
    """Bytes of the packed weights with their scales."""
    return sum(w.codes.size * w.bits // 8 + 4 * w.scale.size for w in export_weights(model).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=[*SHAPES, "smollm2-2bit"])
    for name in ("work", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--teacher-steps", type=int, default=240)
    parser.add_argument("--student-steps", type=int, default=120)
    parser.add_argument("--pictures", type=int, default=400, help="dev pictures to score")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    captions = read_captions(arguments.data, ["train", "extra"])
    references = read_captions(arguments.data, ["dev"])
    tokenizer = Tokenizer.from_file(str(arguments.work / "tokenizer.json"))
    if arguments.system == "smollm2-2bit":
        file = SmolLM2File(gguf_path())
        texts = [normal_form(text) for some in captions.values() for text in some]
        tokenizer, rows = file.trimmed_tokenizer(texts, 4096)
        teacher = cut_teacher(file, SMOLLM2_LAYERS, rows, dropout=0.15, seed=arguments.seed)
        shape = replace(teacher.config, bits=2, memory_bits=8, embedding_bits=8)
    else:
        shape = SHAPES[arguments.system]
        teacher = CaptionModel(twin_config(shape), dropout=0.15, seed=arguments.seed)
        initialise(teacher)
    features = arguments.work / "features"
    data = CaptionSet(FeatureCache(features, "train", 6), captions, tokenizer)
    evaluation = DevEvaluation(
        FeatureCache(features, "dev", 1), references, tokenizer, BeamSettings(alpha=0.0), pictures=arguments.pictures
    )
    out = arguments.out / arguments.system
    settings = TrainSettings(
        rounds=1, learning_rate=6e-4, pictures_per_step=16, steps_per_round=arguments.teacher_steps, seed=arguments.seed
    )
    settings = replace(settings, warmup_steps=60)
    objective = SupervisedObjective(0.1)
    Trainer(teacher, data, objective, settings, evaluation, out / "teacher", tokenizer.to_str()).run()
    student = student_from_teacher(load_checkpoint(out / "teacher" / "model.pt"), shape, 0.1, arguments.seed)
    settings = replace(
        settings, learning_rate=4e-4, steps_per_round=arguments.student_steps, warmup_steps=20, weight_decay=0.0
    )
    distil = SupervisedObjective(0.1, [teacher])
    scores = Trainer(student, data, distil, settings, evaluation, out / "student", tokenizer.to_str()).run()
    assert scores is not None
    print(json.dumps({"system": arguments.system, "bytes": packed_bytes(student), **scores.as_dict()}))


if __name__ == "__main__":
    main()
