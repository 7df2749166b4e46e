"""Refuses an #include that points up: each folder of the core may include itself and the folders below it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "core" / "src"

# base <- tensor <- quant <- kernels <- ops <- program <- {text, vision} <- tasks <- c_api; text and vision do not meet.
_FLOOR = {"base": 0, "tensor": 1, "quant": 2, "kernels": 3, "ops": 4, "program": 5, "text": 6, "vision": 6}
_FLOOR |= {"tasks": 7, "c_api": 8}
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def upward_includes(sources: Path) -> list[str]:
    """One line for each include that points up, beside, or at a folder without a place in the order."""
    problems = []
    for file in sorted(sources.rglob("*")):
        if file.suffix not in {".h", ".cpp", ".c"}:
            continue
        folder = file.relative_to(sources).parts[0]
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            match = _INCLUDE.match(line)
            if match is None or "/" not in match[1]:
                continue
            target = match[1].split("/")[0]
            place = f"{file.relative_to(sources.parent.parent)}:{number}"
            if target == "mobile_multimodal":
                if folder != "c_api":
                    problems.append(f"{place}: {folder} includes the public header {match[1]}, only c_api may")
            elif folder not in _FLOOR or target not in _FLOOR:
                problems.append(f"{place}: {folder} includes {match[1]}, a folder without a place in the order")
            elif target != folder and _FLOOR[target] >= _FLOOR[folder]:
                problems.append(f"{place}: {folder} includes {match[1]}, which is not below it")
    return problems


if __name__ == "__main__":
    found = upward_includes(SOURCES)
    print("\n".join(found) if found else "core includes: all arrows point down")
    sys.exit(1 if found else 0)
