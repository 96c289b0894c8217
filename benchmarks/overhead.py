"""What control costs: time per chunk of the base model alone and under control, side by side in one run.

    python benchmarks/overhead.py                      # a mid-size random model on the CPU
    python benchmarks/overhead.py --size 1.3B --device cuda --dtype bfloat16 --compile

Weights are random, since time does not depend on their values. All streams are open at once and take turns chunk by
chunk, so that whatever else the machine does falls on all of them alike; the ratio is taken chunk by chunk against the
base's chunk of the same round, with the VAE and without it. Chunks are counted from the moment the window is full.
Results go to ``benchmarks/results`` as JSON; ``benchmarks/tables.py`` writes them into README.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from vace_adapt import ControlSettings
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import DecoderStream
from vace_adapt.context.blocks import ContextPath
from vace_adapt.contract import Backbone, PipelineParts
from vace_adapt.embedded.tiny import seeded, tiny_text_encoder, tiny_vae
from vace_adapt.loading import load_plugin
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt.weights.modules import place

TEXT = {"text_dim": 32, "text_len": 32}
SIZES: dict[str, dict[str, Any]] = {
    "mid": {
        "backbone": Backbone(dim=384, ffn_dim=2240, heads=6, layers=12, **TEXT),
        "layers": range(0, 12, 2),
        "height": 160,
        "width": 256,
        "vae": lambda: tiny_vae(0),
    },
    "1.3B": {
        "backbone": Backbone(dim=1536, ffn_dim=8960, heads=12, layers=30, text_dim=32, text_len=512),
        "layers": range(0, 30, 2),
        "height": 480,
        "width": 832,
        "vae": lambda: AutoencoderKLWan(),
    },
}
CASES: dict[str, dict[str, Any]] = {
    "base": {"control": False},
    "control": {},
    "control, 1 reference, cached": {"references": 1},
    "control, 3 references, cached": {"references": 3},
    "control, 3 references, joint": {"references": 3, "form": "joint"},
    "control, 1 reference, cached, in a slot": {"references": 1, "slots": 1},
    "control, scale 0": {"scale": 0.0},
}


def build(size: str, device: torch.device, dtype: torch.dtype) -> Pipeline:
    """A LongLive pipeline of this size with random weights."""
    numbers = SIZES[size]
    backbone: Backbone = numbers["backbone"]
    hooks = load_plugin("longlive")
    text = tiny_text_encoder(0)
    text.length = backbone.text_len
    with torch.device(device):
        model = CausalWan.of(backbone).eval().requires_grad_(False)
        context = ContextPath(backbone, numbers["layers"]).eval().requires_grad_(False)
    parts = PipelineParts(
        model=place(model, device, dtype),
        layout="native",
        settings=hooks.settings_type()(name="longlive"),
        device=device,
        dtype=dtype,
        backbone=backbone,
        vae=place(seeded(numbers["vae"], 0, "vae"), device, dtype, float32_parts=()),
        text_encoder=text.to(device, dtype),
        draws=4,
    )
    return Pipeline(hooks, parts, place(context, device, dtype))


class VaeClock:
    """Seconds spent encoding control and decoding output since `reset`."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = 0.0
        self._device = device
        ControlEncoder.control = self._timed(ControlEncoder.control)
        DecoderStream.decode = self._timed(DecoderStream.decode)

    def reset(self) -> None:
        self.seconds = 0.0

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            self._wait()
            begin = time.perf_counter()
            result = method(*args)
            self._wait()
            self.seconds += time.perf_counter() - begin
            return result

        return timed

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def measure(pipe: Pipeline, size: str, cases: list[str], chunks: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of every counted chunk and of the VAE within it, by case; the cases take turns."""
    clock = VaeClock(pipe.device)
    height, width = SIZES[size]["height"], SIZES[size]["width"]
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    video = rng.integers(0, 256, (12, height, width, 3), dtype=np.uint8)
    sessions = {}
    for name in cases:
        case = CASES[name]
        sessions[name] = pipe.stream(
            "a red ball",
            height=height,
            width=width,
            references=[picture] * case.get("references", 0),
            scale=case.get("scale"),
            controls=ControlSettings(reference_form=case.get("form", "cached"), reference_slots=case.get("slots", 0)),
        )
    filling = 12 // 3
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for index in range(filling + chunks):
        for name, session in sessions.items():
            if CASES[name].get("control", True):
                session.feed(video[: session.shapes.time.pixels(index)])
            clock.reset()
            report = next(session).report
            if index >= filling:
                seconds[name].append((report.seconds, clock.seconds))
    for session in sessions.values():
        session.close()
    return seconds


def summary(seconds: dict[str, list[tuple[float, float]]]) -> dict[str, dict[str, Any]]:
    """Median seconds, and the quartiles (25, 50, 75 %) of the ratios to the base's chunk of the same round."""
    rows = {}
    for name, values in seconds.items():
        rounds = list(zip(values, seconds["base"], strict=True))
        rows[name] = {
            "seconds": statistics.median(whole for whole, _ in values),
            "vae_seconds": statistics.median(vae for _, vae in values),
            "ratio": quartiles(whole / base for (whole, _), (base, _) in rounds),
            "ratio_without_vae": quartiles((whole - vae) / (base - b) for (whole, vae), (base, b) in rounds),
        }
    return rows


def quartiles(values: Iterable[float]) -> list[float]:
    """25, 50 and 75 %."""
    return statistics.quantiles(values, n=4, method="inclusive")


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--chunks", type=int, default=16, help="chunks counted, after the window is full")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    pipe = build(chosen.size, device, getattr(torch, chosen.dtype))
    if chosen.compile:
        pipe.compile()
    seconds = measure(pipe, chosen.size, ["base", *(name for name in chosen.cases if name != "base")], chosen.chunks)
    numbers = SIZES[chosen.size]
    result = {
        "size": chosen.size,
        "backbone": numbers["backbone"].model_dump(),
        "control_layers": len(numbers["layers"]),
        "height": numbers["height"],
        "width": numbers["width"],
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "dtype": chosen.dtype,
        "compiled": chosen.compile,
        "chunks": chosen.chunks,
        "frames_per_chunk": 12,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        "rows": summary(seconds),
    }
    name = f"overhead-{chosen.size}-{device.type}{'-compiled' if chosen.compile else ''}.json"
    output = chosen.output or Path(__file__).parent / "results" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")
    for case, row in result["rows"].items():
        print(
            f"{case:<40} {row['seconds']:8.3f} s, VAE {row['vae_seconds']:7.3f} s, "
            f"x{row['ratio'][1]:.3f}, without VAE x{row['ratio_without_vae'][1]:.3f}"
        )
    print(output)


if __name__ == "__main__":
    main()
