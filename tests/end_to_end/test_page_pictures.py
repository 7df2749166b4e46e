"""Tries the ways a picture comes into the page, and what of it is sent: shrunk, upright, converted or as it is."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from holding_relay import HoldingRelay
from PIL import Image, ImageDraw
from running_server import RunningServer
from watched_browser import expect_done, wait_until

pytest.importorskip("playwright", reason="playwright is not installed: extra dev")

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Makes an event with a file, as the browser makes one when somebody drops or pastes it.
_SEND_FILE = """([kind, selector, data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const target = document.querySelector(selector);
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
  target.dispatchEvent(event);
  return event.defaultPrevented;
}"""


@pytest.fixture
def relay(server: RunningServer) -> Iterator[HoldingRelay]:
    with HoldingRelay(server.port) as started:
        yield started


@pytest.fixture
def page(open_page: Callable[..., Page], relay: HoldingRelay) -> Page:
    """The page behind a relay that keeps what it sends."""
    return open_page(relay.address)


def send_file(page: Page, kind: str, selector: str, file: Path, media_type: str) -> bool:
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return bool(page.evaluate(_SEND_FILE, [kind, selector, data, file.name, media_type]))


def polygons(page: Page) -> list[list[tuple[float, float]]]:
    """The boxes over the picture, in pixels of the picture."""
    points = page.evaluate(
        "[...document.querySelectorAll('#boxes polygon')].map((shape) => shape.getAttribute('points'))"
    )
    return [[tuple(map(float, corner.split(","))) for corner in text.split()] for text in points]  # type: ignore[misc]


def share_of_ink_inside(picture: Image.Image, shapes: list[list[tuple[float, float]]]) -> float:
    """How much of what is dark in a picture lies in the boxes."""
    ink = np.asarray(picture.convert("L")) < 128
    mask = Image.new("1", picture.size)
    brush = ImageDraw.Draw(mask)
    for shape in shapes:
        brush.polygon(shape, fill=1)
        one = Image.new("1", picture.size)
        ImageDraw.Draw(one).polygon(shape, fill=1)
        assert (ink & np.asarray(one)).sum() > 0.03 * np.asarray(one).sum(), "a box lies where nothing is written"
    return float((ink & np.asarray(mask)).sum() / ink.sum())


def read_boxes(page: Page, file: Path) -> list[list[tuple[float, float]]]:
    page.click("#tab-read")
    page.set_input_files("#file", file)
    expect_done(page, "read")
    expect(page.locator("#boxes")).to_be_visible()
    return polygons(page)


def test_the_boxes_lie_on_the_text(page: Page, invoice: Path) -> None:
    shapes = read_boxes(page, invoice)
    with Image.open(invoice) as picture:
        assert page.get_attribute("#boxes", "viewBox") == f"0 0 {picture.width} {picture.height}"
        assert share_of_ink_inside(picture, shapes) > 0.95
    over, image = page.locator("#boxes").bounding_box(), page.locator("#picture").bounding_box()
    assert over == pytest.approx(image, abs=1)


def test_the_boxes_lie_on_the_text_of_a_shrunk_picture(
    page: Page, relay: HoldingRelay, invoice: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    with Image.open(invoice) as picture:
        noise = np.random.default_rng(4711).integers(0, 24, (picture.height * 3, picture.width * 3, 3), dtype=np.uint8)
        resized = np.asarray(
            picture.convert("RGB").resize((picture.width * 3, picture.height * 3), Image.Resampling.BICUBIC)
        )
        Image.fromarray(np.where(resized > 128, resized - noise, resized + noise)).save(
            large
        )  # noise: a photo has some
    page.click("#tab-read")
    page.set_input_files("#file", large)
    expect_done(page, "read")
    with Image.open(io.BytesIO(relay.last_picture())) as copy, Image.open(large) as picture:
        assert (copy.format, copy.width) == ("JPEG", 2048)
        assert page.get_attribute("#boxes", "viewBox") == f"0 0 {picture.width} {picture.height}"
        assert share_of_ink_inside(picture, polygons(page)) > 0.95
    facts = page.locator("#upload-facts").inner_text()
    assert re.search(r"Shrunk before sending: 2048\s×\s956, [\d.]+\s[KM]B instead of 2700\s×\s1260, [\d.]+\sMB", facts)


def test_the_boxes_lie_on_the_text_of_a_turned_picture(page: Page, invoice: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    with Image.open(invoice) as picture:
        upright = picture.convert("RGB").resize((2700, 1260), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown a quarter to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif, quality=95)
    shapes = read_boxes(page, turned)
    assert page.get_attribute("#boxes", "viewBox") == "0 0 2700 1260"
    assert share_of_ink_inside(upright, shapes) > 0.95
    assert "Invoice 4711-A" in page.locator("#lines .line-text").all_inner_texts()


def test_a_caption_gets_512_pixels_unless_the_original_is_wanted(
    page: Page, relay: HoldingRelay, pictures: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.jpg"
    with Image.open(pictures / "boats.jpg") as picture:
        picture.resize((1600, 1280), Image.Resampling.BICUBIC).save(large, quality=95)
    page.set_input_files("#file", large)
    expect_done(page, "caption")
    with Image.open(io.BytesIO(relay.last_picture())) as copy:
        assert copy.size == (512, 410)
    expect(page.locator("#upload-facts")).to_contain_text("instead of")
    page.check("#send-original")
    expect(page.locator("#upload-facts")).to_contain_text("Sent as it is")
    page.click("#panel-caption [data-run]")
    expect(page.locator("#history-count")).to_have_text("2")
    assert relay.last_picture() == large.read_bytes()


def test_a_small_picture_is_sent_as_it_is(page: Page, relay: HoldingRelay, pictures: Path) -> None:
    cat = pictures / "cat.jpg"
    page.set_input_files("#file", cat)
    expect_done(page, "caption")
    assert relay.last_picture() == cat.read_bytes()
    expect(page.locator("#upload-facts")).to_contain_text("Sent as it is")


def test_a_format_that_only_the_browser_knows_is_converted(page: Page, relay: HoldingRelay, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.svg"
    drawn.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200">'
        '<rect width="300" height="100" fill="red"/></svg>'
    )
    page.set_input_files("#file", drawn)
    expect_done(page, "caption")
    with Image.open(io.BytesIO(relay.last_picture())) as copy:
        assert copy.format == "JPEG"
        assert copy.getpixel((150, 150)) == (255, 255, 255)  # transparency lies on white
        assert copy.getpixel((150, 50))[0] > 240  # type: ignore[index]
    expect(page.locator("#upload-facts")).to_contain_text("Converted to JPEG")


def test_a_format_that_only_the_server_knows_is_sent(
    page: Page, relay: HoldingRelay, pictures: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "scan.tif"
    with Image.open(pictures / "boats.jpg") as picture:
        picture.save(scan)
    page.set_input_files("#file", scan)
    expect_done(page, "caption")
    assert relay.last_picture() == scan.read_bytes()
    expect(page.locator("#unshown")).to_contain_text("scan.tif")
    page.click("#tab-read")
    page.click("#panel-read [data-run]")
    expect_done(page, "read")


def test_a_picture_can_be_dropped_and_pasted(page: Page, pictures: Path) -> None:
    ways = [("drop", "#frame"), ("drop", "body"), ("paste", "body"), ("paste", "#main")]
    for number, (kind, selector) in enumerate(ways, start=1):
        assert send_file(page, kind, selector, pictures / "sheep.jpg", "image/jpeg")
        expect(page.locator("#history-count")).to_have_text(str(number))
        expect(page.locator("#upload-name")).to_have_text("sheep.jpg")


def test_the_place_to_drop_lights_up(page: Page, pictures: Path) -> None:
    send_file(page, "dragenter", "#frame", pictures / "sheep.jpg", "image/jpeg")
    expect(page.locator("#frame")).to_have_class(re.compile("is-over"))
    send_file(page, "dragleave", "#frame", pictures / "sheep.jpg", "image/jpeg")
    expect(page.locator("#frame")).not_to_have_class(re.compile("is-over"))


def test_text_may_be_pasted_into_a_field(page: Page) -> None:
    page.click("#tab-ask")
    page.evaluate("navigator.clipboard.writeText('Is there a dog?')")
    page.focus("#question")
    page.keyboard.press("Control+v")
    expect(page.locator("#question")).to_have_value("Is there a dog?")


def test_what_is_no_picture_is_refused_with_its_name(page: Page, root: Path) -> None:
    assert send_file(page, "drop", "#frame", root / "README.md", "text/markdown")
    expect(page.locator("#pick-note")).to_have_text(re.compile(r"^README\.md is no picture\."))
    expect(page.locator("#panel-caption")).to_have_attribute("data-state", "empty")


def test_each_sample_is_a_picture(page: Page) -> None:
    for number, sample in enumerate(page.locator("#samples .sample").all(), start=1):
        sample.click()
        expect(page.locator("#history-count")).to_have_text(str(number))
        wait_until(page, "document.querySelector('#picture').naturalWidth > 0")
    expect(page.locator("#history-count")).to_have_text("4")


def test_the_camera_takes_a_picture_and_is_off_afterwards(
    open_page: Callable[..., Page], server: RunningServer
) -> None:
    page = open_page(server)
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.tracks = [];
          navigator.mediaDevices.getUserMedia = async (wish) => {
            const stream = await ask(wish);
            window.tracks.push(...stream.getTracks());
            return stream;
          };
        }"""
    )
    live = "window.tracks.filter((track) => track.readyState === 'live').length"
    page.click("#open-camera")
    expect(page.locator("#take-picture")).to_be_enabled()
    wait_until(page, "document.querySelector('#camera-view').videoWidth > 0")
    assert page.evaluate(live) == 1
    page.click("#take-picture")
    expect_done(page, "caption")
    expect(page.locator("#upload-name")).to_have_text(re.compile(r"^camera-\d{4}-.*\.jpg$"))
    wait_until(page, f"{live} === 0")
    page.click("#open-camera")
    expect(page.locator("#take-picture")).to_be_enabled()
    assert page.evaluate(live) == 1
    page.keyboard.press("Escape")
    expect(page.locator("#camera-dialog")).to_be_hidden()
    wait_until(page, f"{live} === 0")  # a dialog is hidden before its close event runs


def test_a_camera_that_is_not_allowed_is_explained(open_page: Callable[..., Page], server: RunningServer) -> None:
    page = open_page(server)
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.click("#open-camera")
    expect(page.locator("#camera-note")).to_contain_text("not allowed")
    expect(page.locator("#take-picture")).to_be_disabled()
