"""Names of the stages of caption training, for a command line that starts without PyTorch."""

# `reinforced` is the full-precision model; `student` is the same at low bits.
STAGES = ("features", "tokenizer", "teacher", "reinforced", "student")
