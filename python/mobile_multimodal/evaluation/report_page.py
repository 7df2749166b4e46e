"""Builds the HTML page of an evaluation: tables, plots as SVG and pictures, all in one file."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal.images import load_image

THUMBNAIL = 192  # pixels; 200 of them keep the page below 3 MB

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #8886 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem }
figure { margin: 0 } figure img { width: 100%; border-radius: 4px } figcaption b { display: block }
details { font-size: .9em; opacity: .8 } svg { width: 100%; max-width: 40rem; height: auto }
"""


def write_page(path: Path, title: str, heading: str, parts: Iterable[str]) -> None:
    """Writes the page in one piece: a reader never sees half of it."""
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(heading)}</h1>",
        *parts,
        "</body></html>",
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(lines), encoding="utf-8")
    os.replace(partial, path)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; every cell is escaped."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def cards(heading: str, figures: Iterable[str]) -> list[str]:
    """A grid of pictures under a heading; nothing where there are none."""
    figures = list(figures)
    return [f"<h2>{html.escape(heading)}</h2><main>", *figures, "</main>"] if figures else []


def card(picture: Path, lines: Sequence[str], details: str, hidden: Iterable[str] = ()) -> str:
    """A picture with lines below (HTML: the caller escapes), and a list that opens on demand (escaped here)."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in hidden)
    return (
        f'<figure><img src="data:image/jpeg;base64,{_thumbnail(picture)}" alt="{html.escape(picture.name)}" '
        f'loading="lazy"><figcaption>{"<br>".join(lines)}<details><summary>{html.escape(details)}</summary>'
        f"<ul>{items}</ul></details></figcaption></figure>"
    )


def histogram(scores: NDArray[np.float64], label: str, bins: int = 24) -> str:
    """Bars of how many pictures reach a score, as SVG: the page needs nothing else."""
    counts, edges = np.histogram(scores, bins=bins, range=(0.0, max(1.0, float(scores.max()))))
    width, height = 480, 140
    bar = width / bins
    top = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{i * bar + 1:.1f}" y="{height - height * count / top:.1f}" width="{bar - 2:.1f}" '
        f'height="{height * count / top:.1f}" fill="#4878b0"><title>{edges[i]:.2f} to {edges[i + 1]:.2f}: {count}'
        "</title></rect>"
        for i, count in enumerate(counts)
    )
    axis = "".join(
        f'<text x="{fraction * width:.0f}" y="{height + 16}" font-size="12" fill="currentColor" '
        f'text-anchor="{anchor}">{fraction * edges[-1]:.1f}</text>'
        for fraction, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="{html.escape(label)}">{bars}{axis}</svg>'


def _thumbnail(path: Path) -> str:
    picture = Image.fromarray(load_image(path))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=70)
    return base64.b64encode(content.getvalue()).decode("ascii")
