"""Drives the page of a server in the Chromium of the system."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BY_STATUS = "Failed to load resource: the server responded with a status of"
"""What Chromium writes to the console for an answer that is an error, which the page cannot prevent."""
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.getElementById("drop").dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true }));
  }
}"""
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode()); ) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest(":disabled, select, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${text.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""

Open = Callable[..., Any]


@contextmanager
def chromium(*arguments: str) -> Iterator[Open]:
    """Yields a function that opens an address in a new page, with the options of a browser context.

    At the end it is checked that no page has written an error to its console, or asked another host for anything.
    arguments: those of Chromium, besides the usual ones.
    """
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    from playwright import sync_api

    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])

        def open_page(address: str, **options: object) -> Any:
            page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()

            def console(message: Any) -> None:
                if message.type in ("error", "warning") and not message.text.startswith(BY_STATUS):
                    errors.append(message.text)

            def request(asked: Any) -> None:
                if not asked.url.startswith((f"{address}/", f"blob:{address}/")):
                    errors.append(f"asked for {asked.url}")

            page.on("console", console)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", request)
            page.set_default_timeout(60_000)
            page.goto(address)
            return page

        yield open_page
        browser.close()
    assert errors == []


def drop(page: Any, path: Path, name: str | None = None) -> None:
    """Drops a file on the page, as a person does. name: what it is called; None for its own name."""
    page.evaluate(DROP, [name or path.name, base64.b64encode(path.read_bytes()).decode()])


def wait_until_done(page: Any) -> None:
    """Waits until all models have given their text."""
    page.locator("#status", has_text="Done.").wait_for()


def poor_contrasts(page: Any) -> list[str]:
    """Returns the texts of a page whose contrast is below 4.5, which is what WCAG's level AA asks for."""
    return page.evaluate(CONTRAST)
