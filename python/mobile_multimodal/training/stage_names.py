"""Names of the stages of caption training, for a command line that starts without PyTorch."""

# What makes a student; the twin, its measure in full precision, is trained when asked for.
STUDENT_STAGES = ("features", "tokenizer", "teacher", "reinforced", "adapt", "student")
STAGES = (*STUDENT_STAGES, "twin")
