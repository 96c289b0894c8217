"""What happens to a stream of 100 chunks, with and without re-anchoring: ``python benchmarks/fidelity/drift.py``.

Each stream follows a depth control all along. For every chunk two numbers are written to
``benchmarks/results/drift.json``: its drift (`vace_adapt.streaming.drift`) and how well it follows the control.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import scores
import torch
from cases import HELD_OUT, Given
from convolution import OneDnn
from results import RESULTS
from students import weights_hash

from vace_adapt import load_pipeline
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import Clip, render
from vace_adapt.embedded.world.scene import draw_scene

DRIFT = RESULTS / "drift.json"
ARMS: dict[str, Any] = {
    "never": None,
    "first, every 16": {"every": 16, "source": "first"},
    "first, above 1": {"above": 1.0, "source": "first"},
    "sink, every 16": {"every": 16, "source": "sink"},
}


def main() -> None:
    """Run every arm over the same clips and seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--clips", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline("longlive", device="cpu", dtype="float32")
    frames = 9 + 12 * (given.chunks - 1)
    found: dict[str, Any] = {"weights": weights_hash("longlive"), "chunks": given.chunks, "arms": {}}
    for name, reanchor in ARMS.items():
        clips = (render(draw_scene(HELD_OUT + number, frames)) for number in range(given.clips))
        with OneDnn():
            found["arms"][name] = [_follow(pipeline, clip, seed, reanchor) for seed, clip in enumerate(clips)]
        print(name, flush=True)
    DRIFT.write_text(json.dumps(found))


def _follow(pipeline: Any, clip: Clip, seed: int, reanchor: Any) -> dict[str, list[float]]:
    """Drift and overlap of every chunk."""
    drift: list[float] = []
    overlap: list[float] = []
    nothing = Given("")
    options = {"seed": seed, "num_frames": len(clip.frames), "controls": {"reanchor": reanchor}}
    with pipeline.stream(caption(clip.scene), height=64, width=64, **options) as session:
        session.feed(CONTROLS["depth"](clip), last=True)
        start = 0
        for chunk in session:
            made = chunk.frames[0].numpy()
            part = clip.cut(start, start + len(made))
            start += len(made)
            drift.append(round(chunk.report.drift[0], 4))
            overlap.append(round(scores.overlap(made, part, nothing), 4))
    return {"drift": drift, "overlap": overlap}


if __name__ == "__main__":
    main()
