"""A headless Chromium with the network cut, to open pages as their readers will.

Import `chromium` and `visit` where pytest collects fixtures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from conftest import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@attrs.define(eq=False)
class Visit:
    """An opened page and what went on while it loaded.

    Attributes:
        page: Playwright's page.
        requests: Every address that it asked for, but its own and those within it (`data:`).
        errors: What its scripts threw or logged as errors.
    """

    page: Page
    requests: list[str] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)


def unavailable(reason: str) -> None:
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get("DUCTAFLOW_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and DUCTAFLOW_REQUIRE_BROWSER=1")
    pytest.skip(f"{reason}; these tests open pages in a headless Chromium")


@pytest.fixture(scope="module")  # Playwright keeps a loop running in this thread meanwhile
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed")
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        unavailable("no Chromium on PATH")
    # It does not always take its own temporary files away.
    folder = Path(tempfile.mkdtemp(prefix="c"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--headless", "--no-sandbox", "--disable-gpu"],
            env={**os.environ, "TMPDIR": str(folder)},
        )
        yield browser
        browser.close()
    assert wait_until(lambda: _removed(folder))


def _removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[[Path], Visit]]:
    """Open a file; all that is not a file or inside the page is refused and written down."""
    context = chromium.new_context(viewport={"width": 1000, "height": 800})

    def open_page(path: Path) -> Visit:
        page = context.new_page()
        visited = Visit(page)
        own = path.resolve().as_uri()

        def route(route: object) -> None:
            url = route.request.url
            if url.startswith("file:"):
                route.continue_()
            else:
                route.abort()

        def note(request: object) -> None:
            if request.url != own and not request.url.startswith(("data:", "blob:")):
                visited.requests.append(request.url)

        page.route("**/*", route)
        page.on("request", note)
        page.on("pageerror", lambda error: visited.errors.append(str(error)))
        page.on("console", lambda m: visited.errors.append(m.text) if m.type == "error" else None)
        page.goto(own, wait_until="load")
        return visited

    yield open_page
    context.close()
