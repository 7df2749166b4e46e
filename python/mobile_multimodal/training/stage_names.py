"""Names of the stages of training, for a command line that starts without PyTorch."""

# `reinforced` is the full-precision model; `student` is the same at low bits.
STAGES = ("features", "tokenizer", "teacher", "reinforced", "student")

# `retrieval-teachers`, `retrieval`, `answers` and `choosers` are in full precision, `shared`, `shapes-student` and the
# students at low bits; `question-only` sees no picture and is there to compare with. `choosers` and `shapes-student`
# are for training that goes on from a model file.
LANGUAGE_STAGES = (
    "questions",
    "features",
    "shared",
    "retrieval-teachers",
    "retrieval",
    "retrieval-student",
    "answers",
    "choosers",
    "shapes-student",
    "answers-student",
    "question-only",
    "calibration",
    "tower",
)
