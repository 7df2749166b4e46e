"""Opens the page in Debian's Chromium, and remembers whatever it asks, logs or breaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
WAIT_MILLISECONDS = 30_000  # an upper bound for a machine that is busy: nothing is measured by it


@dataclass
class Watched:
    """What a page did."""

    origin: str
    context: BrowserContext
    page: Page
    requests: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def off_origin(self) -> list[str]:
        """The requests that went to another place than the page's own server."""
        own = (f"{self.origin}/", f"blob:{self.origin}/", "data:")
        return [url for url in self.requests if not url.startswith(own)]

    def listen(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Content-Security-Policy" in message.text:
            self.violations.append(message.text)
        # A refused request is logged by the browser itself: tests of refusals look at the page.
        elif message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.failures.append(message.text)


def launch(playwright: Playwright) -> Browser:
    """Chromium without a window."""
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_FLAGS))


def open_watched(browser: Browser, origin: str, path: str = "/", **options: Any) -> Watched:
    """A page in a context of its own, with nothing stored."""
    context = browser.new_context(viewport=options.pop("viewport", {"width": 1280, "height": 860}), **options)
    context.set_default_timeout(WAIT_MILLISECONDS)
    context.grant_permissions(["clipboard-read", "clipboard-write", "camera"], origin=origin)
    watched = Watched(origin=origin, context=context, page=context.new_page())
    watched.listen()
    watched.page.goto(f"{origin}{path}")
    return watched
