"""Tries what can go wrong: each time the page says what happened, what to do, and the request's id."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from holding_relay import HoldingRelay
from running_server import RunningServer

pytest.importorskip("playwright", reason="playwright is not installed: extra dev")

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

_ID = re.compile(r"Request page-[0-9a-f]{16}")


def done(page: Page, task: str) -> None:
    expect(page.locator(f"#panel-{task}")).to_have_attribute("data-state", "done")


def problem(page: Page, task: str, title: str | re.Pattern[str]) -> Any:
    """The card of a problem, which has a title in words, a hint and the request's id."""
    card = page.locator(f"#panel-{task} .problem")
    expect(card.locator("strong").first).to_have_text(title)
    expect(card.locator(".problem-hint")).to_contain_text(re.compile(r"\w+ \w+"))
    expect(card.locator(".problem-foot")).to_contain_text(_ID)
    expect(page.locator(f"#panel-{task}")).to_have_attribute("data-state", "failed")
    return card


def stats_of(server: RunningServer) -> Any:
    with urllib.request.urlopen(f"{server.address}/v1/stats", timeout=10) as answer:
        return json.load(answer)


def test_a_damaged_picture(page: Page, pictures: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no picture at all" * 50)
    page.set_input_files("#file", damaged)
    card = problem(page, "caption", re.compile(r"\w+ \w+"))
    expect(card).to_contain_text("HTTP 422")
    card.get_by_role("button", name="Copy the request id").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"page-[0-9a-f]{16}", copied)
    page.set_input_files("#file", pictures / "boats.jpg")  # the next picture is a new beginning
    done(page, "caption")
    expect(page.locator("#panel-caption .problem")).to_have_count(0)


def test_a_picture_that_the_server_finds_too_large(
    own_server: Callable[..., Any], open_page: Callable[..., Page], pictures: Path
) -> None:
    with own_server("--max-body-bytes", "20000") as server:
        page = open_page(server)
        page.set_input_files("#file", pictures / "cat.jpg")
        expect(problem(page, "caption", re.compile(r"\w+ \w+"))).to_contain_text("HTTP 413")


def test_a_full_queue_counts_down_to_the_next_try(
    own_server: Callable[..., Any], open_page: Callable[..., Page], pictures: Path
) -> None:
    with own_server("--queue-length", "1", "--deadline-seconds", "60") as server:
        pages = [open_page(server) for _ in range(4)]
        with server.frozen_workers():
            for number, page in enumerate(pages[:3]):
                page.check("[name=writing][value=best]")
                page.set_input_files("#file", pictures / ["cat.jpg", "boats.jpg", "sheep.jpg"][number])
            refused = pages[3]
            refused.set_input_files("#file", pictures / "rocket.jpg")
            card = problem(refused, "caption", re.compile(r"\w+ \w+"))
            expect(card).to_contain_text("HTTP 503")
            again = card.get_by_role("button", name="Try again")
            expect(again).to_be_disabled()
            expect(card.locator(".waiting")).to_contain_text(re.compile(r"\d+\sseconds? to go"))
        expect(again).to_be_enabled()
        expect(refused.locator("#announcer")).to_have_text("You can try again now")
        again.click()
        done(refused, "caption")


def test_a_server_that_is_gone(own_server: Callable[..., Any], open_page: Callable[..., Page], pictures: Path) -> None:
    with own_server() as mortal:
        page = open_page(mortal)
        page.set_input_files("#file", pictures / "cat.jpg")
        done(page, "caption")
        mortal.kill()
        page.click("#panel-caption [data-run]")
        card = problem(page, "caption", "The server cannot be reached")
        expect(card).to_contain_text("mobile-mm serve")
        expect(page.locator("#upload-name")).to_have_text("cat.jpg")  # nothing of the page is lost
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back from another tab: asks anew
        expect(page.locator("#server-state")).to_have_text("not reachable")
        page.click("#tab-search")
        page.fill("#query", "a cat")
        page.keyboard.press("Enter")
        problem(page, "search", "The server cannot be reached")


def test_a_browser_without_a_network(page: Page, pictures: Path) -> None:
    page.set_input_files("#file", pictures / "cat.jpg")
    done(page, "caption")
    page.context.set_offline(True)
    page.click("#panel-caption [data-run]")
    card = problem(page, "caption", "You are offline")
    page.context.set_offline(False)
    card.get_by_role("button", name="Try again").click()
    done(page, "caption")


def test_an_answer_that_breaks_in_the_middle(
    open_page: Callable[..., Page], server: RunningServer, pictures: Path
) -> None:
    with HoldingRelay(server.port) as relay:
        page = open_page(relay.address)
        relay.hold_after(b"event: piece", 3)
        page.set_input_files("#file", pictures / "boats.jpg")
        relay.wait_until_held()
        expect(page.locator("#caption-text")).not_to_be_empty()
        relay.cut()
        problem(page, "caption", "The connection broke")


def test_a_cancelled_stream_stops_and_the_next_one_is_whole(
    open_page: Callable[..., Page], server: RunningServer, pictures: Path
) -> None:
    with HoldingRelay(server.port) as relay:
        page = open_page(relay.address)
        relay.hold_after(b"event: piece", 3)
        page.set_input_files("#file", pictures / "boats.jpg")
        relay.wait_until_held()
        page.click("#panel-caption [data-cancel]")
        expect(page.locator("#panel-caption .run-note")).to_have_text("Cancelled.")
        expect(page.locator("#panel-caption [data-cancel]")).to_be_hidden()
        expect(page.locator("#panel-caption [data-run]")).to_be_focused()
        relay.release()
        page.click("#panel-caption [data-run]")
        done(page, "caption")


def test_a_waiting_request_is_cancelled_with_escape(
    own_server: Callable[..., Any], open_page: Callable[..., Page], pictures: Path
) -> None:
    with own_server("--deadline-seconds", "60") as server:
        page = open_page(server)
        page.click("#tab-ask")
        page.set_input_files("#file", pictures / "boats.jpg")
        page.fill("#question", "Is there a person?")
        with server.frozen_workers():
            page.keyboard.press("Enter")
            expect(page.locator("#panel-ask")).to_have_attribute("data-state", "busy")
            expect(page.locator("#panel-ask .run-note")).to_contain_text("Working")
            page.keyboard.press("Escape")
            expect(page.locator("#panel-ask .run-note")).to_have_text("Cancelled.")
            for _ in range(200):  # the server notices by itself that the browser left
                if stats_of(server)["requests"]["disconnected"]:
                    break
                time.sleep(0.05)
            assert stats_of(server)["requests"]["disconnected"] == 1
        page.keyboard.press("Enter")
        done(page, "ask")


@pytest.mark.parametrize(
    ("task", "sample", "complaint"),
    [
        ("caption", False, "Choose a picture first."),
        ("read", False, "Choose a picture first."),
        ("ask", False, "Choose a picture first."),
        ("ask", True, "Write a question first."),
        ("search", False, "Write what you look for."),
    ],
)
def test_what_is_missing_is_said_and_shown(page: Page, task: str, sample: bool, complaint: str) -> None:
    page.click(f"#tab-{task}")
    if sample:
        page.click("#samples .sample >> nth=0")
        expect(page.locator("#upload")).to_be_visible()
    page.click(f"#panel-{task} [data-run]")
    expect(page.locator(f"#panel-{task} .run-note")).to_have_text(complaint)
    assert page.evaluate("document.activeElement.id") in ("choose-file", "question", "query")


def test_one_answer_alone_is_no_choice(page: Page) -> None:
    page.click("#tab-ask")
    page.click("#samples .sample >> nth=0")
    expect(page.locator("#upload")).to_be_visible()
    page.fill("#question", "What is it?")
    page.click("#options-more summary")
    page.fill("#options", "a boat")
    page.click("#panel-ask [data-run]")
    expect(page.locator("#panel-ask .run-note")).to_have_text("Give two answers to choose from, or none.")
    expect(page.locator("#options")).to_be_focused()
