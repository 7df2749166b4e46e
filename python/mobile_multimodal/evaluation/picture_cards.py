"""Lays out pictures with lines of text below them, in a grid under a heading."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from mobile_multimodal.evaluation.report_page import picture_element
from mobile_multimodal.images import load_image

THUMBNAIL = 192  # pixels; 200 of them keep the page below 3 MB


def card_grid(heading: str, cards: Iterable[str]) -> list[str]:
    """The cards under the heading; nothing where there are none."""
    shown = list(cards)
    return [f"<h2>{html.escape(heading)}</h2><main>", *shown, "</main>"] if shown else []


def card(picture: Path, lines: Sequence[str], summary: str, details: Iterable[str] = ()) -> str:
    """A picture with its lines (HTML: the caller escapes) and a list that opens on demand (escaped here)."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in details)
    element = picture_element(Image.fromarray(load_image(picture)), picture.name, THUMBNAIL)
    return (
        f"<figure>{element}<figcaption>{'<br>'.join(lines)}"
        f"<details><summary>{html.escape(summary)}</summary><ul>{items}</ul></details></figcaption></figure>"
    )
