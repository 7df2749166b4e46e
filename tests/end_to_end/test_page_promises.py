"""Checks what the page promises: its size, its rules, where a key goes, and that its code can be run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from holding_relay import HoldingRelay
from running_server import RunningServer

pytest.importorskip("playwright", reason="playwright is not installed: extra dev")

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEY = "a-key-that-must-not-leak-4711"
SCRIPT_BYTES = 150_000


def done(page: Page, task: str) -> None:
    expect(page.locator(f"#panel-{task}")).to_have_attribute("data-state", "done")


@pytest.fixture(scope="module")
def web(root: Path) -> Path:
    return root / "apps" / "web"


def test_all_scripts_together_are_small(web: Path) -> None:
    assert 0 < sum(file.stat().st_size for file in web.rglob("*.js")) < SCRIPT_BYTES


def test_the_sources_name_no_other_host(web: Path) -> None:
    for file in [*web.rglob("*.js"), *web.rglob("*.css"), *web.rglob("*.html")]:
        named = set(re.findall(r"https?://[\w.-]+", file.read_text(encoding="utf-8")))
        assert named <= {"http://www.w3.org"}, file.name  # a namespace of XML, never asked


def test_the_html_has_no_style_and_no_script_of_its_own(web: Path) -> None:
    html = (web / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    for script in web.rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            script
        )


def test_every_file_says_its_job_first(web: Path) -> None:
    for file in [*web.rglob("*.js"), *web.rglob("*.css")]:
        assert re.match(r"(// |/\* )[A-Z][^\n]{20,}", file.read_text(encoding="utf-8")), file


def test_the_rules_forbid_a_script_in_the_page(browser: Browser, server: RunningServer) -> None:
    context = browser.new_context()  # not watched: here a violation is wanted
    page = context.new_page()
    page.goto(server.address)
    found = page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.wasRun = true";
          document.body.append(script);
        })"""
    )
    assert found == "script-src-elem"
    assert page.evaluate("window.wasRun") is None
    assert (
        page.evaluate("fetch('http://127.0.0.2:9/').then(() => 'reached', (error) => error.name)") == "TypeError"
    )  # connect-src: never tried
    context.close()


def test_a_key_is_kept_for_this_tab_and_shown_nowhere(
    open_page: Callable[..., Page], server: RunningServer, pictures: Path
) -> None:
    with HoldingRelay(server.port) as relay:
        page = open_page(relay.address)
        page.click("#open-key")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.set_input_files("#file", pictures / "cat.jpg")
        done(page, "caption")
        assert any(f"Bearer {KEY}".encode() in upload for upload in relay.uploads)
        assert page.evaluate("JSON.stringify({...sessionStorage})") == json.dumps(
            {"mobile-mm-key": KEY}, separators=(",", ":")
        )
        assert KEY not in page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
        page.click("#code summary")
        for language in ("curl", "python"):
            page.check(f"[name=language][value={language}]")
            assert "MOBILE_MM_KEY" in page.locator("#code-text").inner_text()
        assert KEY not in page.content()
        page.click("#open-key")
        page.click("#forget-key")
        assert page.evaluate("sessionStorage.length") == 0
        assert "MOBILE_MM_KEY" not in page.locator("#code-text").inner_text()


def run_code(page: Page, language: str, folder: Path) -> str:
    """What the code of the page prints, run in a folder with the picture."""
    if page.get_attribute("#code", "open") is None:
        page.click("#code summary")
    page.check(f"[name=language][value={language}]")
    page.click("#copy-code")
    code = page.evaluate("navigator.clipboard.readText()")
    if language == "curl":
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed: apt-get install curl")
        command = ["sh", "-c", code]
    else:
        pytest.importorskip("httpx")
        command = [sys.executable, "-c", code]
    environment = os.environ | {"MOBILE_MM_KEY": "unused"}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True, env=environment)
    return ran.stdout


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_code_of_each_request_can_be_run(page: Page, pictures: Path, tmp_path: Path, language: str) -> None:
    awkward = tmp_path / 'it\'s; my, "cat" $HOME.jpg'
    shutil.copy(pictures / "cat.jpg", awkward)
    page.set_input_files("#file", awkward)
    done(page, "caption")
    sentence = page.locator("#caption-text").inner_text()
    streamed = run_code(page, language, tmp_path)
    assert "event: piece" in streamed
    assert sentence in streamed
    page.click("#tab-ask")
    page.fill("#question", 'What\'s "this" & $HOME?')
    page.click("#options-more summary")
    page.fill("#options", "a cat\n@file;type=text/plain\nEs ist's: ein Hündchen")
    page.click("#panel-ask [data-run]")
    done(page, "ask")
    printed = run_code(page, language, tmp_path)
    for option in ("a cat", "@file;type=text/plain", "Es ist's: ein Hündchen"):
        assert option in printed
    assert page.locator("#answer-text").inner_text() in printed
    page.click("#tab-search")
    page.fill("#query", 'it\'s a "boat"')
    assert "boats.jpg" in run_code(page, language, tmp_path)
