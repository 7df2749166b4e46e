"""Lays out the HTML page of an evaluation: one file that holds its style, its plot and its pictures."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #8886 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem }
main.wide { grid-template-columns: repeat(auto-fill, minmax(28rem, 1fr)) }
figure { margin: 0 } figure img { width: 100%; border-radius: 4px } figcaption b { display: block }
pre { white-space: pre-wrap; margin: .3rem 0 } del { color: #c33 } ins { color: #282 }
details { font-size: .9em; opacity: .8 } svg { width: 100%; max-width: 40rem; height: auto }
"""


def write_report_page(path: Path, title: str, heading: str, parts: Sequence[str]) -> None:
    """Writes the parts (HTML) below the heading; the file appears whole or not at all."""
    page = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(heading)}</h1>",
        *parts,
        "</body></html>",
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(page), encoding="utf-8")
    os.replace(partial, path)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of texts."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


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


def picture_element(picture: Image.Image, name: str, longest_side: int) -> str:
    """The picture inside the page, its longer side at most `longest_side` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((longest_side, longest_side))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=70)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(name)}" loading="lazy">'
