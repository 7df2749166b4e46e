"""Tries each tab of the page with a picture, against the real server and its real model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from holding_relay import HoldingRelay
from running_server import RunningServer

from mobile_multimodal import MobileMultiModalLLM

pytest.importorskip("playwright", reason="playwright is not installed: extra dev")

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page


def done(page: Page, task: str) -> None:
    expect(page.locator(f"#panel-{task}")).to_have_attribute("data-state", "done")


@pytest.fixture(scope="module")
def model() -> Any:
    with MobileMultiModalLLM.from_pretrained("mobile-mm-llm-int2", threads=1) as loaded:
        yield loaded


def test_a_picture_is_captioned_as_soon_as_it_is_chosen(page: Page, pictures: Path) -> None:
    page.set_input_files("#file", pictures / "boats.jpg")
    done(page, "caption")
    sentence = page.locator("#caption-text").inner_text()
    assert re.fullmatch(r"[A-Z][a-z ,']{10,}\.?", sentence)
    expect(page.locator("#caption-facts")).to_contain_text(
        re.compile(r"^First word after [\d.]+\s(ms|s) · whole after")
    )
    expect(page.locator("#caption-confidence .measure-number")).to_have_text(re.compile(r"^[<>]?\s?\d+\s%$"))
    assert page.get_attribute("#picture", "alt") == sentence
    expect(page.locator("#announcer")).to_have_text(sentence)


def test_the_best_of_beams_is_the_models_own_caption(page: Page, pictures: Path, model: MobileMultiModalLLM) -> None:
    page.check("[name=writing][value=best]")
    page.set_input_files("#file", pictures / "cat.jpg")  # 451 x 300: sent as it is
    done(page, "caption")
    assert page.locator("#caption-text").inner_text() == str(model.generate_caption(pictures / "cat.jpg"))
    assert "First word" not in page.locator("#caption-facts").inner_text()


def test_words_are_shown_before_the_sentence_is_over(
    open_page: Callable[..., Page], server: RunningServer, pictures: Path
) -> None:
    with HoldingRelay(server.port) as relay:
        page = open_page(relay.address)
        relay.hold_after(b"event: piece", 4)  # the fourth event has begun: three are whole
        page.set_input_files("#file", pictures / "boats.jpg")
        relay.wait_until_held()
        panel = page.locator("#panel-caption")
        expect(panel).to_have_attribute("data-state", "writing")
        expect(page.locator("#caption-text")).to_have_text(re.compile(r"^\w+ \w+ \w+$"))
        expect(page.locator("#panel-caption .output")).to_have_attribute("aria-busy", "true")
        begun = page.locator("#caption-text").inner_text()
        relay.release()
        done(page, "caption")
        whole = page.locator("#caption-text").inner_text()
        assert whole.startswith(begun)
        assert len(whole.split()) > len(begun.split())


def test_a_page_is_read_line_by_line(page: Page, invoice: Path) -> None:
    page.click("#tab-read")
    page.set_input_files("#file", invoice)
    done(page, "read")
    lines = page.locator("#lines .line-text").all_inner_texts()
    assert "Invoice 4711-A" in lines
    assert len(lines) == 5
    page.click("#copy-text")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(lines)
    expect(page.locator("#copy-text")).to_have_text("Copied")


def test_pointing_at_a_line_marks_its_box_and_the_reverse(page: Page, invoice: Path) -> None:
    page.click("#tab-read")
    page.set_input_files("#file", invoice)
    done(page, "read")
    page.hover("#lines li:nth-child(3)")
    expect(page.locator("#boxes g.marked")).to_have_count(1)
    expect(page.locator("#boxes g.marked")).to_have_attribute("data-line", "2")
    page.hover("#boxes g[data-line='4'] text")  # it lies on its box
    expect(page.locator("#lines li.marked")).to_have_count(1)
    expect(page.locator("#lines li.marked .line-text")).to_contain_text("angle")
    page.focus("#lines li:nth-child(1)")
    page.mouse.move(0, 0)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#boxes g.marked")).to_have_attribute("data-line", "1")


def test_the_text_over_the_picture_can_be_selected(page: Page, invoice: Path) -> None:
    page.click("#tab-read")
    page.set_input_files("#file", invoice)
    done(page, "read")
    box = page.locator("#boxes g[data-line='1'] polygon").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, middle, steps=8)
    page.mouse.up()
    selected = page.evaluate("String(getSelection())")
    line = page.locator("#lines li:nth-child(2) .line-text").inner_text()
    assert len(selected) > len(line) / 2
    assert selected in line


def test_a_question_is_answered_with_its_alternatives(page: Page, pictures: Path, model: MobileMultiModalLLM) -> None:
    page.click("#tab-ask")
    page.set_input_files("#file", pictures / "cat.jpg")  # small enough to be sent as it is
    page.fill("#question", "Is there a person?")
    page.keyboard.press("Enter")
    done(page, "ask")
    answer = model.answer_question(pictures / "cat.jpg", "Is there a person?")
    expect(page.locator("#answer-text")).to_have_text(str(answer))
    names = page.locator("#alternatives .bar-name").all_inner_texts()
    assert names == [text for text, _ in answer.alternatives[1:]]
    share = page.evaluate("document.querySelector('#answer-confidence .bar span').style.getPropertyValue('--share')")
    assert float(share) == pytest.approx(answer.confidence, abs=1e-4)
    widths = page.evaluate(
        "[...document.querySelectorAll('#alternatives .bar span')].map((bar) => bar.getBoundingClientRect().width)"
    )
    assert widths == sorted(widths, reverse=True)


def test_it_chooses_among_given_answers_and_remembers_the_questions(page: Page, pictures: Path) -> None:
    page.click("#tab-ask")
    page.set_input_files("#file", pictures / "boats.jpg")
    page.fill("#question", "What is in the picture?")
    page.click("#options-more summary")
    page.fill("#options", "boats on the water\n a cat \n\n")
    page.click("#panel-ask [data-run]")
    done(page, "ask")
    expect(page.locator("#answer-text")).to_have_text("boats on the water")
    assert page.locator("#alternatives .bar-name").all_inner_texts() == ["boats on the water", "a cat"]
    page.click("#suggestions .chip >> nth=1")
    expect(page.locator("#asked")).to_have_text("Is there a person?")
    assert page.locator("#asked-list .asked-question").all_inner_texts() == [
        "Is there a person?",
        "What is in the picture?",
    ]
    page.click("#asked-list .asked-again >> nth=1")
    expect(page.locator("#answer-text")).to_have_text("boats on the water")
    expect(page.locator("#options")).to_have_value("boats on the water\na cat")
    page.set_input_files("#file", pictures / "cat.jpg")
    expect(page.locator("#asked-before")).to_be_hidden()


def test_words_find_pictures_of_the_index(page: Page) -> None:
    page.click("#tab-search")
    expect(page.locator("#search-empty")).to_contain_text("10")
    page.fill("#query", "boats on the water")
    page.keyboard.press("Enter")
    done(page, "search")
    expect(page.locator("#hits .hit-name").first).to_have_text("boats.jpg")
    scores = [float(text) for text in page.locator("#hits .hit-score").all_inner_texts()]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    page.wait_for_function(
        "[...document.querySelectorAll('#hits img')].slice(0, 4).every((image) => image.naturalWidth > 0)"
    )


def test_a_picture_finds_itself_and_a_found_one_becomes_the_picture(page: Page, pictures: Path) -> None:
    page.click("#tab-search")
    page.set_input_files("#file", pictures / "rocket.jpg")
    page.click("#search-by-picture")
    done(page, "search")
    expect(page.locator("#hits .hit-name").first).to_have_text("rocket.jpg")
    expect(page.locator("#search-facts")).to_contain_text("rocket.jpg")
    page.click("#hits .hit >> nth=1")
    second = page.locator("#hits .hit-name").nth(1).inner_text()
    expect(page.locator("#upload-name")).to_have_text(second)
    page.click("#tab-caption")
    page.click("#panel-caption [data-run]")
    done(page, "caption")


def test_a_server_without_an_index_says_so(own_server: Callable[..., Any], open_page: Callable[..., Page]) -> None:
    with own_server() as server:
        page = open_page(server, "/#search")
        expect(page.locator("#no-index")).to_contain_text("This server has no pictures to search.")
        expect(page.locator("#no-index-commands")).to_contain_text("mobile-mm serve --index")
        expect(page.locator("#search-form")).to_be_hidden()


def test_timings_and_the_server_stand_in_the_strip(page: Page, pictures: Path) -> None:
    expect(page.locator("#server-state")).to_have_attribute("data-state", "ready")
    server = dict(
        zip(
            page.locator("#server-strip dt").all_inner_texts(),
            page.locator("#server-strip dd").all_inner_texts(),
            strict=True,
        )
    )
    assert server["Model"] == "mobile-mm-llm-int2"
    assert server["File"].endswith("MB")
    assert re.fullmatch("[0-9a-f]{8}", server["Version"])
    page.set_input_files("#file", pictures / "boats.jpg")
    done(page, "caption")
    answer = dict(
        zip(
            page.locator("#answer-strip dt").all_inner_texts(),
            page.locator("#answer-strip dd").all_inner_texts(),
            strict=True,
        )
    )
    assert {"Queue", "Inference", "Server", "Round trip", "Cached"} <= set(answer)


def test_the_session_is_remembered_in_the_page_and_shown_again(page: Page, pictures: Path, invoice: Path) -> None:
    page.set_input_files("#file", pictures / "boats.jpg")
    done(page, "caption")
    sentence = page.locator("#caption-text").inner_text()
    page.click("#tab-read")
    page.set_input_files("#file", invoice)
    done(page, "read")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("#history summary")
    expect(page.locator("#history-count")).to_have_text("2")
    page.click("#history-list .history-entry >> nth=1")
    expect(page.locator("#caption-text")).to_have_text(sentence)
    expect(page.locator("#upload-name")).to_have_text("boats.jpg")
    page.click("#clear-history")
    expect(page.locator("#history-list li")).to_have_count(0)
    assert [url for url in asked if "/v1/" in url and not url.endswith("/v1/stats")] == []
