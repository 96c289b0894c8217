"""One HTML page about several runs: no network, no other file; videos, styles and script are inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from vace_adapt.comparison.differences import names
from vace_adapt.comparison.plots import DASHES
from vace_adapt.comparison.tables import (
    GROUPS,
    Shown,
    configurations,
    notes,
    pipelines,
    plots,
    settings_table,
    table,
)
from vace_adapt.errors import InputError
from vace_adapt.experiments.finished import FinishedRun, video_frames
from vace_adapt.experiments.measure import Measures
from vace_adapt.experiments.output import CONTROL, MASK, VIDEO

Array = np.ndarray[Any, Any]

ASSETS = Path(__file__).parent

MOST_RUNS = 48
"""On one page; more could not be watched together."""


def page(
    runs: Sequence[FinishedRun],
    measured: Sequence[Measures],
    *,
    title: str | None = None,
    conformance: Mapping[str, str] | None = None,
) -> str:
    """The page as text.

    Args:
        runs: at least one, in the order of the page.
        measured: of each.
        title: of the page; None names what the runs have in common.
        conformance: what ``vace-adapt check`` found, by pipeline; what is not in it was not checked.

    Raises:
        InputError: too many runs.
    """
    if len(runs) > MOST_RUNS:
        raise InputError(f"{len(runs)} runs do not fit on one page: name at most {MOST_RUNS} folders")
    called = names([run.config for run in runs], [run.folder.resolve().name for run in runs])
    shown = [Shown(*each) for each in zip(runs, measured, called, strict=True)]
    longest = max(runs, key=lambda run: run.metrics["frames"])
    facts = {"rate": longest.rate, "frames": longest.metrics["frames"], "chunks": _finest(runs)}
    heading = title or _title(runs)
    body = [
        f"<header><h1>{escape(heading)}</h1>{_summary(runs)}</header><main>",
        _transport(facts["frames"], facts["chunks"]),
        _players(shown),
        _wipe(shown) if len(_sources(shown)) > 1 else "",
        "<h2>Measures</h2><p>★ best and ▾ worst of a column. Press a heading to sort. A time holds for the machine it "
        "was taken on.</p>",
        *(table(group, shown) for group in GROUPS),
        notes(shown),
        plots(shown),
        settings_table(shown),
        pipelines(shown, conformance or {}),
        configurations(shown),
        "</main><footer>Made by <code>vace-adapt compare</code>. Everything is in this file.</footer>",
    ]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(heading)}</title>",
            f"<style>{(ASSETS / 'page.css').read_text()}{_colours(len(runs))}</style></head><body>",
            *body,
            f'<script type="application/json" id="facts">{json.dumps(facts)}</script>',
            f"<script>{(ASSETS / 'page.js').read_text()}</script></body></html>\n",
        ]
    )


def _title(runs: Sequence[FinishedRun]) -> str:
    """Pipelines and tasks, or how many there are."""
    pipelines = list(dict.fromkeys(run.config["pipeline"]["name"] for run in runs))
    tasks = list(dict.fromkeys(run.config["task"]["name"] for run in runs))
    first = " and ".join(pipelines) if len(pipelines) < 4 else f"{len(pipelines)} pipelines"
    return f"{first}: {' and '.join(tasks) if len(tasks) < 4 else f'{len(tasks)} tasks'}"


def _summary(runs: Sequence[FinishedRun]) -> str:
    """What all of them have in common, in a line, and the prompt."""
    sizes = {f"{run.metrics['frames']} frames" for run in runs}
    devices = {f"{run.record.machine.device}, {run.metrics['dtype']}" for run in runs}
    random = {f"{run.config['pipeline']['name']}: random weights" for run in runs if not run.metrics["trained"]}
    embedded = [not any(run.config["weights"][part] for part in ("base", "vae", "control")) for run in runs]
    facts = [f"{len(runs)} runs" if len(runs) > 1 else "1 run", *sorted(sizes), *sorted(devices)]
    facts += [*sorted(random), *(["embedded toy weights"] if all(embedded) else [])]
    prompts = list(dict.fromkeys(run.config["prompt"] for run in runs if run.config["prompt"]))
    words = f"<p>“{escape(prompts[0])}”</p>" if len(prompts) == 1 else ""
    return words + '<ul class="facts">' + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>"


def _finest(runs: Sequence[FinishedRun]) -> list[int]:
    """Frames of each chunk, of the run that has most of them."""
    return max((run.pixels for run in runs), key=len)


def _transport(frames: int, chunks: Sequence[int]) -> str:
    ticks = "".join(f'<span style="flex:{count}" title="chunk {i}"></span>' for i, count in enumerate(chunks))
    return f"""<div class="bar" role="group" aria-label="Playback of all videos"><div class="bar-row">
<button id="play" aria-pressed="false">Play</button>
<button id="chunk-back" aria-label="Chunk back">« chunk</button>
<button id="back" aria-label="Frame back">‹ frame</button>
<button id="on" aria-label="Frame on">frame ›</button><button id="chunk-on" aria-label="Chunk on">chunk »</button>
<select id="speed" aria-label="Speed"><option value="1">1×</option><option value="0.5">½×</option>
<option value="0.25">¼×</option><option value="0.1">⅒×</option></select>
<button id="size" aria-pressed="false">Larger</button><output id="place"></output></div>
<div class="scrub"><input id="scrub" type="range" min="0" max="{frames - 1}" value="0" step="1" aria-label="Frame">
<div class="ticks" aria-hidden="true">{ticks}</div></div></div>
<p class="note keys">Keys: <kbd>space</kbd> plays, <kbd>←</kbd> <kbd>→</kbd> step by frame, <kbd>[</kbd> <kbd>]</kbd> by
chunk. The strip under the slider is the chunks.</p>"""


def _sources(shown: Sequence[Shown]) -> list[tuple[str, str, Path]]:
    """Name, what it is, and file of every video: controls and masks that are the same once, then the runs."""
    found: list[tuple[str, str, Path]] = []
    for name, title, told in ((CONTROL, "Control", "what VACE was shown"), (MASK, "Mask", "white is made anew")):
        known: list[Array] = []
        for one in shown:
            path = one.run.folder / name
            frames = video_frames(path) if path.is_file() else None
            if frames is not None and not any(_alike(frames, other) for other in known):
                known.append(frames)
                found.append((title if len(known) == 1 else f"{title} {len(known)}", f"{told}: {one.name}", path))
        if len(known) == 1:
            found[-1] = (title, told, found[-1][2])
    return found + [(one.name, one.run.config["task"]["name"], one.run.folder / VIDEO) for one in shown]


def _alike(one: Array, other: Array) -> bool:
    """Whether two videos show the same; encoding alone changes a level here and there."""
    return one.shape == other.shape and float(np.abs(one.astype(np.int16) - other).mean()) < 1


def _players(shown: Sequence[Shown]) -> str:
    made = []
    first = len(_sources(shown)) - len(shown)
    for i, (name, told, path) in enumerate(_sources(shown)):
        key = f'<span class="key run{i - first}"></span>' if i >= first else ""
        video = f'<video src="{_inlined(path)}" muted playsinline preload="auto" aria-label="{escape(name)}"></video>'
        made.append(
            f"<figure>{video}<figcaption>{key}{escape(name)}<small>{escape(told)}</small></figcaption></figure>"
        )
    return f'<div class="players">{"".join(made)}</div>'


def _wipe(shown: Sequence[Shown]) -> str:
    sources = _sources(shown)
    runs = len(sources) - len(shown)
    first, second = (runs, runs + 1) if len(shown) > 1 else (0, runs)

    def options(chosen: int) -> str:
        return "".join(
            f'<option value="{i}"{" selected" if i == chosen else ""}>{escape(name)}</option>'
            for i, (name, _, _) in enumerate(sources)
        )

    video = '<video muted playsinline preload="auto" aria-hidden="true"></video>'
    return f"""<section class="wipe" aria-label="Wipe between two videos"><h2>Wipe</h2><div class="wipe-row">
<label>left <select id="wipe-a">{options(first)}</select></label>
<label>right <select id="wipe-b">{options(second)}</select></label></div>
<div class="stage">{video}{video}</div>
<input id="wipe-at" type="range" min="0" max="100" value="50" aria-label="Place of the edge, from the left, in percent">
</section>"""


def _inlined(path: Path) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _colours(count: int) -> str:
    """Colour of each run; dashes tell those of one colour apart."""
    rules = []
    for i in range(count):
        colour = f"var(--c{i % 8})"
        style = "solid" if not DASHES[i % len(DASHES)] else "dashed" if i % 2 else "dotted"
        rules.append(f".key.run{i}{{border-top-color:{colour};border-top-style:{style}}}")
        rules.append(f"polyline.run{i}{{stroke:{colour}}}circle.run{i}{{fill:{colour}}}")
    return "".join(rules)
