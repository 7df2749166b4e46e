"""`import mobile_multimodal` and `mobile-mm` load numpy and Pillow, and nothing else that is not Python's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
before = set(sys.modules)
{statement}
loaded = {{name.split(".")[0] for name in set(sys.modules) - before}}
ours = {{"mobile_multimodal", "numpy", "PIL"}}
print(*sorted(name for name in loaded - ours - set(sys.stdlib_module_names) if not name.startswith("_")))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import mobile_multimodal",
        "from mobile_multimodal import native",
        "from mobile_multimodal.cli.main import main; main(['caption', 'no.jpg', '--model', '/no/model.gguf'])",
    ],
)
def test_nothing_but_numpy_and_pillow_is_loaded(statement: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(statement=statement)], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
