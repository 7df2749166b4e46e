"""Collects real pages: `python benchmarks/ocr/document_pages.py OUT --documents FOLDER`.

- `page`, the scan in scikit-image's wheel, transcribed here. Its `text` is a formula by hand: it has no lines to score.
- Pages of PDF documents from Debian packages, rendered by pdftoppm; `pdftotext -bbox-layout` tells their text.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Language and path in the package: debian-faq, debian-faq-de, -fr, -it, maint-guide-es, maint-guide-zh-cn.
DOCUMENTS = (
    ("en", "usr/share/doc/debian/FAQ/debian-faq.en.pdf.gz"),
    ("de", "usr/share/doc/debian/FAQ/debian-faq.de.pdf.gz"),
    ("fr", "usr/share/doc/debian/FAQ/debian-faq.fr.pdf.gz"),
    ("it", "usr/share/doc/debian/FAQ/debian-faq.it.pdf.gz"),
    ("es", "usr/share/doc/maint-guide-es/maint-guide.es.pdf"),
    ("zh", "usr/share/doc/maint-guide-zh-cn/maint-guide.zh-cn.pdf"),
)
PAGES_OF_A_DOCUMENT = 4
RESOLUTIONS = (100, 130, 160)  # dots per inch
LINES_LEAST, LINES_MOST = 12, 70  # neither the end of a chapter nor a list of contents
INK = 160  # gray levels below it are ink

# scikit-image's page.png, 384 x 191: read by eye, boxes around the ink. What is cut at the lower edge is left out.
SCAN_LINES = (
    ("Region-based segmentation", [[5, 26], [204, 11], [205, 27], [6, 42]]),
    ("Let us first determine markers of the coins and the", [[5, 51], [374, 48], [374, 60], [5, 63]]),
    ("background. These markers are pixels that we can label", [[5, 68], [376, 64], [376, 78], [5, 82]]),
    ("unambiguously as either object or background. Here,", [[5, 86], [374, 81], [374, 96], [5, 101]]),
    ("the markers are found at the two extreme parts of the", [[5, 104], [374, 98], [374, 111], [5, 117]]),
    ("histogram of grey values:", [[5, 120], [172, 121], [172, 133], [5, 132]]),
    (">>> markers = np.zeros_like(coins)", [[17, 170], [241, 178], [241, 189], [17, 181]]),
)


def scan(out: Path) -> dict[str, Any]:
    """scikit-image's page."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        sys.exit("document_pages: scikit-image is not installed. hint: pip install scikit-image")
    shutil.copy(Path(package.origin).parent / "data/page.png", out / "images/scan-page.png")
    lines = [{"text": text, "box": box} for text, box in SCAN_LINES]
    return {"picture": "images/scan-page.png", "language": "en", "kind": "scan", "lines": lines}


def document(out: Path, language: str, path: Path, seed: int) -> list[dict[str, Any]]:
    """Some pages of a PDF, at different resolutions."""
    with tempfile.TemporaryDirectory() as folder:
        pdf = path
        if path.suffix == ".gz":
            pdf = Path(folder) / "document.pdf"
            pdf.write_bytes(gzip.decompress(path.read_bytes()))
        layout = Path(folder) / "layout.xml"
        subprocess.run(["pdftotext", "-bbox-layout", str(pdf), str(layout)], check=True)
        every = [page for page in ElementTree.parse(layout).iter() if page.tag.endswith("}page")]
        suitable = [number for number, page in enumerate(every) if _is_suitable(page)]
        chosen = sorted(random.Random(f"{seed}/{language}").sample(suitable, PAGES_OF_A_DOCUMENT))
        pages = []
        for count, number in enumerate(chosen):
            resolution = RESOLUTIONS[count % len(RESOLUTIONS)]
            name = f"images/{language}-document-{number + 1}"
            options = ["-r", str(resolution), "-png", "-singlefile", "-f", str(number + 1), "-l", str(number + 1)]
            subprocess.run(["pdftoppm", *options, str(pdf), str(out / name)], check=True)
            picture = np.asarray(Image.open(out / f"{name}.png").convert("L"))
            lines = [_placed(line, picture, resolution / 72) for line in _lines(every[number])]
            kept = [line for line in lines if line is not None]
            pages.append({"picture": f"{name}.png", "language": language, "kind": "document", "lines": kept})
        return pages


def _lines(page: ElementTree.Element) -> list[ElementTree.Element]:
    return [line for line in page.iter() if line.tag.endswith("}line")]


def _is_suitable(page: ElementTree.Element) -> bool:
    texts = [_text(line) for line in _lines(page)]
    return LINES_LEAST <= len(texts) <= LINES_MOST and not any(". . ." in text or "...." in text for text in texts)


def _text(line: ElementTree.Element) -> str:
    """Words, with a space where there is one on the page: poppler also parts them where the font changes."""
    words = [word for word in line.iter() if word.tag.endswith("}word")]
    text = ""
    for before, word in zip([None, *words], words, strict=False):
        if before is not None:
            gap = float(word.attrib["xMin"]) - float(before.attrib["xMax"])
            height = float(word.attrib["yMax"]) - float(word.attrib["yMin"])
            text += " " if gap > 0.1 * height else ""
        text += word.text or ""
    return text


def _placed(line: ElementTree.Element, picture: np.ndarray[Any, Any], scale: float) -> dict[str, Any] | None:
    """The line with its box drawn close around the ink; nothing where there is none."""
    names = ("xMin", "yMin", "xMax", "yMax")
    left, top, right, bottom = (max(0, round(float(line.attrib[name]) * scale)) for name in names)
    rows, columns = np.nonzero(picture[top:bottom, left:right] < INK)
    if not len(rows) or not _text(line).strip():
        return None
    left, right = left + int(columns.min()), left + int(columns.max()) + 1
    top, bottom = top + int(rows.min()), top + int(rows.max()) + 1
    return {"text": _text(line), "box": [[left, top], [right, top], [right, bottom], [left, bottom]]}


def main() -> None:
    """Writes pictures and pages.jsonl in OUT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--documents", type=Path, default=Path("/"), metavar="FOLDER", help="where the packages are unpacked"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    (arguments.out / "images").mkdir(parents=True, exist_ok=True)
    pages = [scan(arguments.out)]
    for language, name in DOCUMENTS:
        path = arguments.documents / name
        if not path.is_file():
            sys.exit(
                f"document_pages: {path} is not there. hint: unpack the package with `dpkg -x` and pass --documents"
            )
        pages += document(arguments.out, language, path, arguments.seed)
    rows = [json.dumps(page, ensure_ascii=False) for page in pages]
    (arguments.out / "pages.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(pages)} pages in {arguments.out}")


if __name__ == "__main__":
    main()
