#!/usr/bin/env python3
"""Writes docs/images/page-*.png: the page of a running server in Debian's Chromium.

Run by hand, with the server's index over the folder of your choice:
    mobile-mm index FOLDER && mobile-mm serve --index FOLDER
    python scripts/page_screenshots.py http://127.0.0.1:8080 --query "a dog runs on grass"
The page takes the system's font; Debian's package fonts-inter looks like that of most phones and desktops.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT: Final = Path(__file__).resolve().parent.parent
IMAGES: Final = ROOT / "docs" / "images"
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
LARGEST_BYTES: Final = 250_000
COLOURS: Final = 256  # a palette: photographs in a screenshot of this size stay good, and the file a quarter


def caption(page: Page) -> None:
    """A sentence about the boats."""
    page.set_input_files("#file", ROOT / "examples/pictures/boats.jpg")
    page.wait_for_selector("#panel-caption[data-state=done]")


def read(page: Page) -> None:
    """The lines of the page, one of them pointed at."""
    page.click("#tab-read")
    page.set_input_files("#file", ROOT / "examples/pages/invoice.png")
    page.wait_for_selector("#panel-read[data-state=done]")
    page.hover("#lines li:nth-child(3)")


def ask(page: Page) -> None:
    """Two questions about the sheep."""
    page.click("#tab-ask")
    page.set_input_files("#file", ROOT / "examples/pictures/sheep.jpg")
    for question in ("Is there a person?", "What animal is this?"):
        page.fill("#question", question)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#asked:has-text('{question}')")
    page.evaluate("document.activeElement.blur()")


def search(page: Page, query: str) -> None:
    """What the index has for some words."""
    page.click("#tab-search")
    page.fill("#query", query)
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel-search[data-state=done]")
    page.evaluate("document.activeElement.blur()")
    while not page.evaluate("[...document.querySelectorAll('#hits img')].every((image) => image.naturalWidth > 0)"):
        page.wait_for_timeout(50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("server", help="its address, such as http://127.0.0.1:8080")
    parser.add_argument("--query", default="a dog runs on grass", help="what to search for")
    arguments = parser.parse_args()
    wide, narrow = {"width": 1240, "height": 860}, {"width": 360, "height": 740}
    shots: list[tuple[str, str, dict[str, int], Callable[[Page], None]]] = [
        ("page-caption", "light", wide, caption),
        ("page-read", "dark", wide, read),
        ("page-ask", "light", narrow, ask),
        ("page-search", "light", wide, lambda page: search(page, arguments.query)),
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        for name, scheme, size, act in shots:
            scale = 1.5 if size is narrow else 1
            page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=scale)  # type: ignore[arg-type]
            page.goto(arguments.server)
            page.wait_for_selector("#server-state[data-state=ready]")
            act(page)
            page.wait_for_timeout(500)  # transitions come to rest
            write(IMAGES / f"{name}.png", page.screenshot(full_page=True))
            page.close()
        browser.close()


def write(path: Path, screenshot: bytes) -> None:
    """Saves with a palette; fails where the file is larger than docs should carry."""
    with Image.open(io.BytesIO(screenshot)) as picture:
        picture.convert("RGB").quantize(COLOURS, kmeans=4, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size} bytes")
    if size > LARGEST_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes, expected at most {LARGEST_BYTES}")


if __name__ == "__main__":
    main()
