"""Holds the page against axe-core in both colour schemes and on a narrow screen, in each of its states."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running_server import RunningServer

pytest.importorskip("playwright", reason="playwright is not installed: extra dev")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed: extra dev")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDE = {"width": 1280, "height": 860}
NARROW = {"width": 360, "height": 740}
LOOKS = [
    pytest.param({"color_scheme": scheme, "viewport": size}, id=f"{scheme}-{size['width']}")
    for scheme, size in itertools.product(("light", "dark"), (WIDE, NARROW))
]


def done(page: Page, task: str) -> None:
    expect(page.locator(f"#panel-{task}")).to_have_attribute("data-state", "done")


def check(page: Page, state: str) -> None:
    """No violation of any rule of axe, and nothing to scroll sideways."""
    page.evaluate("Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => null)))")
    found = Axe().run(page).response["violations"]
    told = [(rule["id"], [(node["target"], node["failureSummary"]) for node in rule["nodes"]]) for rule in found]
    assert told == [], f"{state}: {told}"
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), state


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(
    open_page: Callable[..., Page], server: RunningServer, invoice: Path, tmp_path: Path, look: dict[str, Any]
) -> None:
    page = open_page(server, reduced_motion="reduce", **look)
    check(page, "empty")
    page.click("#samples .sample >> nth=0")
    done(page, "caption")
    check(page, "caption")
    page.click("#tab-read")
    page.set_input_files("#file", invoice)
    done(page, "read")
    page.hover("#lines li:nth-child(2)")
    check(page, "read")
    page.click("#tab-ask")
    page.fill("#question", "What is it?")
    page.click("#options-more summary")
    page.fill("#options", "a page\na dog")
    page.click("#panel-ask [data-run]")
    done(page, "ask")
    check(page, "ask")
    page.click("#tab-search")
    page.fill("#query", "a boat")
    page.keyboard.press("Enter")
    done(page, "search")
    check(page, "search")
    page.click("#code summary")
    page.click("#history summary")
    check(page, "code and history")
    page.click("#open-key")
    check(page, "key")
    page.keyboard.press("Escape")
    page.click("#open-camera")
    expect(page.locator("#take-picture")).to_be_enabled()
    check(page, "camera")
    page.keyboard.press("Escape")
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no picture")
    page.click("#tab-caption")
    page.set_input_files("#file", damaged)
    expect(page.locator("#panel-caption .problem")).to_be_visible()
    check(page, "problem")


def test_axe_would_find_something(page: Page) -> None:
    page.evaluate(
        "for (const name of ['aria-label', 'title']) document.querySelector('#open-key').removeAttribute(name)"
    )
    with pytest.raises(AssertionError, match="button-name"):
        check(page, "spoilt")


@pytest.mark.parametrize("width", [320, 360, 480, 768, 820, 1024, 1920])
def test_nothing_scrolls_sideways(open_page: Callable[..., Page], server: RunningServer, width: int) -> None:
    page = open_page(server, viewport={"width": width, "height": 700})
    page.click("#samples .sample >> nth=3")
    done(page, "caption")
    for task in ("caption", "read", "ask", "search"):
        page.click(f"#tab-{task}")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), task


def test_an_answer_comes_into_sight_on_a_narrow_screen(open_page: Callable[..., Page], server: RunningServer) -> None:
    page = open_page(server, viewport=NARROW)
    page.click("#samples .sample >> nth=0")
    done(page, "caption")
    expect(page.locator("#caption-text")).to_be_in_viewport()


def test_nothing_moves_where_that_is_not_wanted(open_page: Callable[..., Page], server: RunningServer) -> None:
    page = open_page(server, reduced_motion="reduce")
    moving = """[...document.querySelectorAll('*')].filter((element) => {
      const style = getComputedStyle(element);
      return style.animationName !== 'none' || style.transitionDuration.split(',').some((time) => parseFloat(time) > 0);
    }).map((element) => element.className)"""
    page.evaluate("document.querySelector('#panel-caption').dataset.state = 'busy'")
    assert page.evaluate(moving) == []
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) != []
