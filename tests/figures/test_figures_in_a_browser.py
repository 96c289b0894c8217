"""A browser finds every text inside the picture, and none over another."""

from __future__ import annotations

import os
import shutil

import pytest
from draw import DOCS, FIGURES
from svg import Drawing

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

WRONG = """() => {
  const page = document.querySelector('svg').viewBox.baseVal, wrong = [];
  const texts = [...document.querySelectorAll('text')].map(text => [text.textContent, text.getBBox()]);
  texts.forEach(([one, a], i) => {
    if (a.x < 0 || a.y < 0 || a.x + a.width > page.width || a.y + a.height > page.height) wrong.push([one]);
    for (const [other, b] of texts.slice(i + 1)) {
      const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
      const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
      if (across > 1 && down > 6) wrong.push([one, other]);
    }
  });
  return wrong;
}"""


@pytest.fixture(scope="module")
def page():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def test_texts_are_inside_and_apart(page):
    for name in FIGURES:
        page.set_content((DOCS / f"{name}.svg").read_text(encoding="utf-8"))
        assert page.evaluate(WRONG) == [], name


def test_texts_that_are_not_are_found(page):
    drawing = Drawing(100, "test")
    drawing.text(740, 20, "outside", room=100)
    drawing.text(20, 60, "one", room=100)
    drawing.text(30, 62, "other", room=100)
    page.set_content(drawing.render())
    assert page.evaluate(WRONG) == [["outside"], ["one", "other"]]
