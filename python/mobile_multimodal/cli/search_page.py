"""Writes found pictures as one HTML page: thumbnails inside, light and dark, for mouse and keyboard, no network."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from PIL import Image

from mobile_multimodal.errors import InvalidInputError, MobileMultiModalError
from mobile_multimodal.gallery import GalleryHit
from mobile_multimodal.images import load_image

THUMBNAIL_SIDE: Final = 320  # twice the 160 pixels of the narrowest column, for dense screens; about 15 KB each
_THUMBNAIL_QUALITY: Final = 80

# The policy lets the page show what is inside it and load nothing.
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --back: #fafafa; --card: #fff; --text: #1b1b1f; --soft: #5c5c66; --line: #d9d9e0;
  --accent: #0b57d0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: #131316; --card: #1e1e23; --text: #ececf1; --soft: #a5a5b2;
  --line: #35353d; --accent: #8ab4f8; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 2rem 1.5rem; max-width: 90rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }}
p {{ margin: .25rem 0 1.5rem; color: var(--soft); }}
kbd {{ padding: 0 .35em; border: 1px solid var(--line); border-radius: .25em; font: inherit; font-size: .85em; }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 45%), 1fr)); gap: 1rem; margin: 0;
  padding: 0; list-style: none; }}
a {{ display: flex; flex-direction: column; height: 100%; overflow: hidden; border: 1px solid var(--line);
  border-radius: .6rem; background: var(--card); color: inherit; text-decoration: none; }}
a:hover {{ border-color: var(--accent); }}
a:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
.frame {{ position: relative; display: grid; place-items: center; aspect-ratio: 4 / 3; background: var(--line); }}
img {{ position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }}
.missing {{ padding: 1rem; color: var(--soft); text-align: center; }}
.facts {{ padding: .6rem .75rem; }}
.name {{ font-weight: 600; overflow-wrap: anywhere; }}
.more {{ display: flex; justify-content: space-between; gap: .5rem; color: var(--soft); font-size: .85rem;
  font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{summary}</p>
<ol>
{cards}
</ol>
</main>
<script>
"use strict";
const cards = [...document.querySelectorAll("ol a")];
const perRow = () => Math.max(1, cards.filter((card) => card.offsetTop === cards[0].offsetTop).length);
document.addEventListener("keydown", (event) => {{
  if (event.ctrlKey || event.metaKey || event.altKey || !cards.length) return;
  const at = cards.indexOf(document.activeElement);
  const targets = {{
    ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: cards.length - 1,
    ArrowDown: at < 0 ? 0 : at + perRow(), ArrowUp: at - perRow(),
  }};
  if (!Object.hasOwn(targets, event.key)) return;
  const card = cards[targets[event.key]];
  if (!card) return;
  event.preventDefault();
  card.focus();
  card.scrollIntoView({{ block: "nearest" }});
}});
</script>
</body>
</html>
"""

_CARD: Final = """<li><a href="{address}" title="{path}">
<span class="frame">{picture}</span>
<span class="facts"><span class="name">{name}</span>
<span class="more"><span>{taken}</span><span>{score}</span></span></span>
</a></li>"""


def write_search_page(page: Path, query: str, hits: Sequence[GalleryHit], *, pictures: int) -> None:
    """Writes the page; a picture that cannot be read any more stands there with its name.

    Raises InvalidInputError where the file cannot be written.
    """
    summary = (
        f"The {len(hits)} nearest of {pictures:,} pictures." if hits else f"Nothing found in {pictures:,} pictures."
    )
    if len(hits) > 1:
        summary += " <kbd>←</kbd> <kbd>↑</kbd> <kbd>→</kbd> <kbd>↓</kbd> move, <kbd>Enter</kbd> opens the file."
    text = _PAGE.format(title=_shown(query), summary=summary, cards="\n".join(_card(hit) for hit in hits))
    try:
        page.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"file {str(page)!r} cannot be written: {reason}", "name another file with --html"
        ) from error


def _card(hit: GalleryHit) -> str:
    copies = f", {len(hit.copies)} more cop{'ies' if len(hit.copies) > 1 else 'y'}" if hit.copies else ""
    return _CARD.format(
        address=escape(hit.path.as_uri()),
        path=_shown(str(hit.path)),
        picture=_picture(hit.path),
        name=_shown(hit.path.name) + copies,
        taken=f"{hit.taken:%Y-%m-%d}",
        score=f"{hit.score:.3f}",
    )


def _picture(path: Path) -> str:
    try:
        picture = Image.fromarray(load_image(path, model_side=THUMBNAIL_SIDE))
    except MobileMultiModalError as error:
        return f'<span class="missing">{_shown(error.message)}</span>'
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_THUMBNAIL_QUALITY)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="" src="data:image/jpeg;base64,{data}" width="{picture.width}" height="{picture.height}">'


def _shown(text: str) -> str:
    """Escaped; bytes of a name that are no UTF-8 become marks, because a page must be UTF-8."""
    return escape(os.fsencode(text).decode("utf-8", "replace"))
