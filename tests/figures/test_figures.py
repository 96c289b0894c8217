"""What stands in ``docs/figures`` is what the code draws now, and it shows the numbers of the code."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import architecture
import data_flow
import pytest
import svg
from draw import DOCS, FIGURES
from memories import PIPELINES, memory_of
from timeline import CHUNKS, timeline

from vace_adapt.hookspecs import OPTIONAL_HOOKS


@pytest.fixture(scope="module")
def memories():
    return {name: memory_of(name, {}, CHUNKS) for name in PIPELINES}


@pytest.fixture(scope="module")
def drawn(memories):
    return {**FIGURES, "timeline": lambda: timeline(memories)}


@pytest.mark.parametrize("name", FIGURES)
def test_the_files_are_what_the_code_draws(name, drawn):
    assert (DOCS / f"{name}.svg").read_text(encoding="utf-8") == drawn[name](), "run python figures/draw.py"
    assert {path.stem for path in DOCS.iterdir()} == set(FIGURES)


@pytest.mark.parametrize(
    ("draw", "changed"),
    [
        (architecture.architecture, {"window": 9}),
        (architecture.architecture, {"chunk_latents": 2}),
        (data_flow.data_flow, {"chunk_latents": 1}),
        (data_flow.data_flow, {"denoising_steps": (1000, 500)}),
    ],
)
def test_another_number_is_another_picture(draw, changed):
    assert draw(changed) != draw()


def test_other_blocks_are_another_picture(monkeypatch):
    before = architecture.architecture()
    monkeypatch.setattr(architecture, "CONTEXT_BLOCKS", 10)
    assert "10 blocks" in architecture.architecture()
    assert architecture.architecture() != before


@pytest.mark.parametrize(
    ("name", "changed"),
    [("longlive", {"window": 9}), ("memflow", {"record_interval": 1}), ("streamdiffusion", {"slots": 5, "sink": 2})],
)
def test_another_memory_is_another_timeline(memories, name, changed):
    other = memory_of(name, changed, CHUNKS)
    assert other.moments != memories[name].moments
    assert timeline({**memories, name: other}) != timeline(memories)


def test_a_full_memory_holds_what_the_settings_say(memories):
    last = {name: memory.moments[-1] for name, memory in memories.items()}
    kinds = {name: [*moment.held.values()] for name, moment in last.items()}
    for name, memory in memories.items():
        if memory.layout.kind == "packed":
            continue
        frames = memory.layout.slots - memory.layout.bank
        assert kinds[name].count("sink") == memory.settings.sink == 3
        assert kinds[name].count("sink") + kinds[name].count("window") + len(last[name].made) == frames
    assert [kinds["framepack"].count(scale) for scale in ("4x", "2x", "1x")] == [
        *memories["framepack"].settings.history
    ]
    assert last["longlive"].held == {0: "sink", 1: "sink", 2: "sink", **dict.fromkeys(range(12, 18), "window")}
    assert last["memflow"].banked == {0, 9}
    assert last["memflow"].held[9] == "bank"
    assert [*last["streamdiffusion"].beside] == [last["streamdiffusion"].made.stop]


def test_a_hook_that_is_not_shown_is_an_error(monkeypatch):
    monkeypatch.setattr(data_flow, "OPTIONAL_HOOKS", (*OPTIONAL_HOOKS, "vace_new"))
    with pytest.raises(ValueError, match="the picture and the contract differ in \\['vace_new'\\]"):
        data_flow.data_flow()


@pytest.mark.parametrize("name", FIGURES)
def test_files_are_valid_and_have_colours_for_light_and_dark(name):
    text = (DOCS / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == f"0 0 {svg.WIDTH} {root.get('height')}"
    assert text.count("prefers-color-scheme: dark") == 1
    sizes = [float(node.get("font-size")) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert min(sizes) >= 14


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("kind", sorted(set(svg.PALETTE) - {"work"}))
def test_text_stands_out(kind, scheme):
    ink, fill = svg.INKS["ink"][scheme], svg.PALETTE[kind][2 * scheme]
    assert contrast(ink, fill) >= 4.5
    assert contrast(svg.INKS["quiet"][scheme], svg.PAPER[scheme]) >= 4.5


def contrast(one, other):
    """Contrast ratio of WCAG 2."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_that_does_not_fit_is_an_error():
    drawing = svg.Drawing(100, "test")
    drawing.text(0, 20, "short", room=60)
    with pytest.raises(ValueError, match=r"'rather long' needs \d+ pixels, there are 60"):
        drawing.text(0, 20, "rather long", room=60)
    with pytest.raises(ValueError, match=r"\['one', 'two'\] need 44 pixels of height, there are 40"):
        drawing.box(0, 0, 80, 40, ("one", "two"), "plain")
