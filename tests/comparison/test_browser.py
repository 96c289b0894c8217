"""The page in a real browser: videos in step, tables that sort, keys that work, no errors, no network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from comparison.pages import example_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

TIMES = "[...document.querySelectorAll('video')].filter(v => v.offsetParent).map(v => v.currentTime)"
RUNS = "[...document.querySelectorAll('table.sortable')].at(-1).tBodies[0].innerText"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page of two runs, and whatever went wrong on it."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(example_page(path.parent), encoding="utf-8")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
        )
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready=true]")
        yield page, wrong
        browser.close()


def settled(page) -> list[float]:
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => !v.seeking && v.readyState >= 2)")
    return page.evaluate(TIMES)


def in_step(page, frame: int) -> bool:
    return all(abs(time - (frame + 0.5) / 10) < 0.03 for time in settled(page))


def test_videos_are_in_step_wherever_one_goes(opened):
    page, _ = opened
    page.evaluate("document.activeElement.blur()")
    assert len(settled(page)) == 6, "control, mask, two runs, and two in the wipe"
    assert in_step(page, 0)
    for key, frame in (("ArrowRight", 1), ("]", 9), ("ArrowLeft", 8), ("[", 0), ("End", 20), ("[", 9), ("Home", 0)):
        page.keyboard.press(key)
        assert in_step(page, frame), key
    page.locator("#scrub").fill("13")
    assert in_step(page, 13)
    assert page.locator("#place").inner_text() == "frame 14 of 21, 1.30 s, chunk 1"
    assert page.locator("circle.now").count() > 0
    page.evaluate("document.querySelector('video').currentTime = 0")
    assert not in_step(page, 13), "the mutant: one video that went off alone is noticed"


def test_they_play_together(opened):
    page, _ = opened
    page.locator("#scrub").fill("0")
    page.locator("#play").click()
    page.wait_for_function("Number(document.getElementById('scrub').value) >= 3")
    page.locator("#play").click()
    frame = int(page.locator("#scrub").input_value())
    assert in_step(page, frame)
    assert page.locator("#play").inner_text() == "Play"


def test_a_table_sorts_both_ways(opened):
    page, _ = opened
    head = page.locator("table.sortable").last.locator("thead button", has_text="frames a second")
    head.click()
    up = page.evaluate(RUNS).splitlines()
    assert page.locator("th[aria-sort=ascending]").count() == 1
    head.click()
    assert page.evaluate(RUNS).splitlines() == up[::-1] != up


def test_the_wipe_shows_two_videos(opened):
    page, _ = opened
    sources = page.evaluate("[...document.querySelectorAll('.stage video')].map(v => v.src.length)")
    assert min(sources) > 1000
    page.locator("#wipe-at").fill("20")
    assert page.evaluate("document.querySelector('.stage').style.getPropertyValue('--at')") == "20%"
    before = page.evaluate("document.querySelector('.stage video').src")
    page.locator("#wipe-a").select_option("1")
    assert page.evaluate("document.querySelector('.stage video').src") != before


def test_it_fits_on_a_phone(opened):
    page, _ = opened
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1280, "height": 900})


def test_nothing_went_wrong_and_nothing_was_fetched(opened):
    assert opened[1] == []


def test_the_page_names_no_other_file(tmp_path):
    text = example_page(Path(tmp_path))
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
    assert text.count("<script") == text.count("</script>") == 2
