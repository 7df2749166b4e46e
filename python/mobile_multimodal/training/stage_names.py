"""Names of the stages of training, for a command line that starts without PyTorch."""

# `reinforced` is the full-precision model; `student` is the same at low bits.
STAGES = ("features", "tokenizer", "teacher", "reinforced", "student")

# `retrieval-teachers`, `retrieval` and `answers` are in full precision, `shared` and the students at low bits;
# `question-only` sees no picture and is there to compare with.
LANGUAGE_STAGES = (
    "questions",
    "features",
    "shared",
    "retrieval-teachers",
    "retrieval",
    "retrieval-student",
    "answers",
    "answers-student",
    "question-only",
    "calibration",
    "tower",
)
