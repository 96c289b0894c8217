"""Demo sheets: ``python benchmarks/fidelity/demos.py [NAME...]`` writes ``docs/demos/NAME.png``.

Each sheet is a few runs of `vace_adapt.experiments`, as ``vace-adapt run`` makes them, on the bundled inputs and on
pictures drawn from fixed seeds; the overrides of each stand over its pictures. Nothing is chosen by its looks: every
run has the seed of the configuration, and the moments are spread evenly over it.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import HELD_OUT
from convolution import OneDnn
from demo_sheet import Row, Section, sheet
from PIL import Image

from vace_adapt.config.compose import bundled
from vace_adapt.config.read import settings_from
from vace_adapt.config.settings import RunSettings
from vace_adapt.embedded.world.render import reference
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.experiments.finished import read_run, video_frames
from vace_adapt.experiments.start import sourced, start

Array = np.ndarray[Any, Any]

DOCS = Path(__file__).parents[2] / "docs" / "demos"

LARGEST = 400_000
"""Bytes of a sheet."""

BALLS = (seed for seed in itertools.count(HELD_OUT) if draw_scene(seed, things=1).things[0].kind == "ball")
THINGS = {f"ball{number}.png": seed for number, seed in enumerate(itertools.islice(BALLS, 2))}
"""Pictures of balls that no model has seen, by the seeds of their scenes: the first that are measured."""

PROMPT = "a striped ball and a pink ring on maroon floor"


@dataclass(frozen=True)
class Run:
    """One run of a sheet.

    Attributes:
        overrides: of the configuration, as on a command line; files are `THINGS` and those of the bundled clip.
        prompt: where they do not name a preset, which has one.
        given: whether to show what VACE was shown.
        beside: a bundled picture or one of `THINGS`, shown beside what was made.
    """

    overrides: str
    prompt: str = ""
    given: bool = True
    beside: str = ""


@dataclass(frozen=True)
class Demo:
    """One sheet.

    Attributes:
        title: what it shows.
        runs: from top to bottom.
        columns: moments of a run.
        inputs: bundled videos in front of them, by label.
    """

    title: str
    runs: tuple[Run, ...]
    columns: int = 6
    inputs: Mapping[str, str] = field(default_factory=dict)


DEMOS = {
    "references": Demo(
        "References: the same prompt and seed under several pictures",
        (
            Run("experiment=style_references controls.scale.references=0"),
            Run("experiment=style_references", beside="reference.png"),
            Run("experiment=style_references references=[ball0.png]", beside="ball0.png"),
            Run("experiment=style_references references=[ball1.png]", beside="ball1.png"),
        ),
    ),
    "controls": Demo(
        "Controls: what is given, and what is made of it",
        (
            Run("experiment=depth"),
            Run("experiment=pose"),
            Run("task=canny input=video.mp4", PROMPT),
            Run("task=flow input=video.mp4", PROMPT),
            Run("task=gray input=video.mp4", PROMPT),
            Run("task=text frames=45", PROMPT),
        ),
        columns=5,
    ),
    "extension": Demo(
        "Extension: a video around given pictures",
        (
            Run("experiment=keyframe_interpolation"),
            Run("task=firstframe first=first.png frames=45", PROMPT),
            Run("task=lastframe last=last.png frames=45", PROMPT),
            Run("task=keyframes 'keyframes=[{path: first.png, frame: 26}]' frames=45", PROMPT),
        ),
    ),
    "inpainting": Demo(
        "Inpainting: made anew where the mask is white, kept elsewhere",
        (
            Run("experiment=inpainting"),
            Run("experiment=inpainting controls.preserve=pixel", given=False),
            Run("experiment=inpainting controls.mask.invert=true"),
            Run("task=outpaint input=video.mp4", PROMPT),
        ),
        inputs={"video": "video.mp4", "mask": "mask.mp4"},
    ),
    "composition": Demo(
        "Composition: several controls at once",
        (
            Run("experiment=composition", beside="reference.png"),
            Run("experiment=composition input=depth.mp4 mask=null", beside="reference.png"),
            Run("experiment=depth first=first.png"),
        ),
        inputs={"video": "video.mp4", "mask": "mask.mp4"},
    ),
    "scale": Demo(
        "Scale: one control, weaker and stronger",
        tuple(
            Run(f"experiment=scale controls.scale.control={scale}", given=not number)
            for number, scale in enumerate((0, 0.5, 1, 1.5, 2))
        ),
    ),
    "long_form": Demo(
        "Long form: 40 chunks, a new prompt every 10",
        (Run("experiment=long_form"), Run("experiment=long_form controls.reanchor=null")),
        columns=8,
    ),
}
"""The sheets by name; every preset of ``conf/experiment`` is in one."""


def main() -> None:
    """Make the sheets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DEMOS)}; all of them by default")
    names = parser.parse_args().names or list(DEMOS)
    DOCS.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # in models this small, threads only wait for each other
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            save(drawn(DEMOS[name], Path(folder)), DOCS / f"{name}.png")
        print(DOCS / f"{name}.png", flush=True)


def save(image: Image.Image, path: Path) -> None:
    """Write a sheet as PNG; with a palette of 256 colours where it would be larger than `LARGEST`."""
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def drawn(demo: Demo, folder: Path) -> Image.Image:
    """A sheet; its runs and pictures are made in a folder."""
    inputs = tuple(Row(label, video_frames(Path(bundled(name)))) for label, name in demo.inputs.items())
    sections = [Section("the inputs", "", inputs)] if inputs else []
    sections += [made(run, folder, number) for number, run in enumerate(demo.runs)]
    return sheet(demo.title, sections, demo.columns)


def made(run: Run, folder: Path, number: int) -> Section:
    """The pictures of one run."""
    for name, seed in THINGS.items():
        Image.fromarray(reference(draw_scene(seed, things=1).things[0])).save(folder / name)
    target = folder / f"run{number}"
    settings = settings_of_run(run, folder, target)
    with OneDnn():
        result = start(settings, sourced(settings), progress=False)
    assert result is not None
    done = read_run(target)
    control = done.control() if run.given else None
    rows = [] if control is None else [Row("given", control)]
    if run.beside:
        picture = np.asarray(Image.open(path_of(run.beside, folder)).convert("RGB"))
        rows.append(Row("from reference", done.output(), picture))
    else:
        rows.append(Row("made", done.output()))
    starts = [0, *itertools.accumulate(done.pixels)]
    prompts = [(starts[switch.chunk], switch.prompt) for switch in settings.switches if switch.prompt]
    if prompts:
        prompts.insert(0, (0, settings.prompt))
    return Section(run.overrides, settings.prompt, tuple(rows), tuple(prompts))


def settings_of_run(run: Run, things: Path, target: Path) -> RunSettings:
    """A run's settings.

    Args:
        run: which.
        things: the folder of `THINGS`.
        target: the run's own.
    """
    found = re.sub(r"\w+\.(?:png|mp4)", lambda name: str(path_of(name[0], things)), run.overrides)
    words = shlex.split(found)
    prompt = [f"prompt={run.prompt}"] if run.prompt else []
    return settings_from([*words, *prompt, f"output.folder={target}", "output.quality=0"])


def path_of(name: str, things: Path) -> Path:
    """A file of `THINGS`, which lie in a folder, or of the bundled clip."""
    return things / name if name in THINGS else Path(bundled(name))


if __name__ == "__main__":
    main()
