"""Walks through the page with the keyboard alone: everything is reached, seen to be focused, and works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running_server import RunningServer

pytest.importorskip("playwright", reason="playwright is not installed: extra dev")

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

# What a sighted keyboard user needs: an outline around what has the focus, or around the label that stands for it.
_FOCUS = """() => {
  const focused = document.activeElement;
  const outlined = [focused, focused.nextElementSibling].filter(Boolean)
    .some((element) => getComputedStyle(element).outlineStyle !== "none");
  const box = focused.getBoundingClientRect();
  return {
    name: focused.id || focused.dataset.run !== undefined && "run" || focused.value || focused.textContent.trim(),
    isOutlined: outlined && focused !== document.body,
    isInSight: box.bottom > 0 && box.top < innerHeight && box.width > 0,
  };
}"""


def done(page: Page, task: str) -> None:
    expect(page.locator(f"#panel-{task}")).to_have_attribute("data-state", "done")


def walk(page: Page, key: str = "Tab") -> list[str]:
    """The names of what has the focus, one after the other, until it leaves the page."""
    found: list[str] = []
    for _ in range(80):
        page.keyboard.press(key)
        focus: dict[str, Any] = page.evaluate(_FOCUS)
        if page.evaluate("document.activeElement === document.body"):
            return found
        assert focus["isOutlined"], f"{focus['name']} has the focus and no outline"
        assert focus["isInSight"], f"{focus['name']} has the focus and is out of sight"
        if found and focus["name"] == found[0]:
            return found
        found.append(focus["name"])
    raise AssertionError(f"the focus never left the page: {found}")


def test_the_tab_key_reaches_everything_in_order(page: Page) -> None:
    reached = walk(page)
    assert reached[:6] == [
        "Skip to the picture",
        "open-key",
        "switch-colours",
        "tab-caption",
        "choose-file",
        "open-camera",
    ]
    assert reached[10:12] == ["run", "stream"]
    assert reached[12:] == ["This request in code", "This session 0"]


def test_the_tab_key_reaches_a_result_and_what_is_opened(page: Page, invoice: Path) -> None:
    page.click("#tab-read")
    page.set_input_files("#file", invoice)
    done(page, "read")
    page.click("#code summary")
    page.click("#history summary")
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    page.focus("#open-key")
    reached = walk(page)
    for name in ("send-original", "show-boxes", "copy-text", "copy-code", "curl", "clear-history"):
        assert name in reached
    assert (
        sum(name.startswith("Invoice 4711-A") for name in reached) == 1
    )  # one stop for all lines: arrows move in them


def test_arrows_home_and_end_move_between_tabs(page: Page) -> None:
    page.focus("#tab-caption")
    for key, task in [
        ("ArrowRight", "read"),
        ("End", "search"),
        ("ArrowRight", "caption"),
        ("ArrowLeft", "search"),
        ("Home", "caption"),
    ]:
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{task}")).to_be_focused()
        expect(page.locator(f"#tab-{task}")).to_have_attribute("aria-selected", "true")
        expect(page.locator(f"#panel-{task}")).to_be_visible()
        expect(page.locator("[role=tabpanel]:visible")).to_have_count(1)
        expect(page.locator("[role=tab][tabindex='-1']")).to_have_count(3)
        assert page.url.endswith(f"#{task}")


def test_an_address_names_a_tab(open_page: Callable[..., Page], server: RunningServer) -> None:
    page = open_page(server, "/#ask")
    expect(page.locator("#panel-ask")).to_be_visible()
    page.evaluate("location.hash = '#read'")
    expect(page.locator("#panel-read")).to_be_visible()


def test_the_skip_link_leads_to_the_picture(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the picture")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator("#panel-caption")).to_be_visible()


def test_a_whole_visit_without_a_mouse(page: Page) -> None:
    page.focus("#tab-caption")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-ask")).to_be_visible()
    for _ in range(4):  # past the buttons for file and camera, to the second sample
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#upload-name")).to_have_text("sheep.jpg")
    for _ in range(4):  # two more samples, the switch, the question
        page.keyboard.press("Tab")
    page.keyboard.type("What animal is this?")
    page.keyboard.press("Enter")
    done(page, "ask")
    expect(page.locator("#answer-text")).not_to_be_empty()
    expect(page.locator("#question")).to_be_focused()


def test_dialogs_keep_and_return_the_focus(page: Page) -> None:
    page.focus("#open-key")
    page.keyboard.press("Enter")
    expect(page.locator("#key")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('#key-dialog')"
        )
    page.keyboard.press("Escape")
    expect(page.locator("#open-key")).to_be_focused()


def test_the_colours_are_switched_and_kept(open_page: Callable[..., Page], server: RunningServer) -> None:
    page = open_page(server, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.focus("#switch-colours")
    page.keyboard.press("Enter")  # light
    assert page.evaluate(ground) == light
    page.keyboard.press("Enter")  # dark
    dark = page.evaluate(ground)
    assert dark != light
    expect(page.locator("#switch-colours")).to_have_attribute("aria-label", "Colours: dark")
    page.reload()
    assert page.evaluate(ground) == dark
    page.click("#switch-colours")  # as the system again
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == dark
