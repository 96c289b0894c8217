"""How one chunk comes about, what core does and what a plugin answers, hook by hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svg import WIDTH, Drawing

from vace_adapt.hookspecs import ANNOTATOR_HOOKS, HOOK_API, OPTIONAL_HOOKS, REQUIRED_HOOKS
from vace_adapt.loading import load_plugin
from vace_adapt.time_map import TimeMap
from vace_adapt.validation import validated

ONCE: Mapping[str, tuple[str, ...]] = {
    "who it is": ("vace_describe", "vace_settings"),
    "it is loaded": ("vace_load_pipeline", "vace_tiny_pipeline", "vace_embedded_base"),
    "it is attached": ("vace_locate_blocks", "vace_wrap_attention"),
    "a stream opens": ("vace_chunk_shapes", "vace_cache_ops", "vace_stream"),
    "it is replayed": ("vace_replay",),
}
"""Hooks that are called once, in the order of their calls, by the moment."""

EVERY_CHUNK = ("vace_annotator", "vace_stream", "vace_cache_ops", "vace_decode", "vace_chunk_done")
"""Hooks that stand in the picture of a chunk: what these have given is used there, or they are called."""

PANEL, INNER = 358, 338
LEFT, RIGHT = 22, 400
BETWEEN = 380
"""Pixels: width of a panel and of what is in it, where that begins, and where the hints run."""


def data_flow(settings: Mapping[str, Any] | None = None) -> str:
    """The drawing, as SVG.

    Args:
        settings: of the pipeline that the numbers are of (LongLive), those that are not the defaults.

    Raises:
        ValueError: the contract has a hook that the picture does not show, or the other way round.
    """
    shown = {*EVERY_CHUNK, *(hook for hooks in ONCE.values() for hook in hooks)}
    declared = {*REQUIRED_HOOKS, *OPTIONAL_HOOKS, *ANNOTATOR_HOOKS}
    if shown != declared:
        raise ValueError(f"the picture and the contract differ in {sorted(shown ^ declared)}")
    plugin = load_plugin("longlive")
    chosen: Any = validated(plugin.settings_type(), {"name": "longlive", **(settings or {})}, "pipeline")
    drawing = Drawing(892, "Data flow of one chunk, and the hooks of a plugin")
    _once(drawing)
    _chunk(drawing, 272, chosen)
    return drawing.render()


def _once(drawing: Drawing) -> None:
    """The table of hooks that are called once."""
    drawing.text(12, 30, f"What a plugin is asked once (HOOK_API {HOOK_API})", room=WIDTH - 24, size=19, bold=True)
    for line, (moment, hooks) in enumerate(ONCE.items()):
        y = 46 + line * 38
        drawing.text(12, y + 21, moment, room=158)
        for place, hook in enumerate(hooks):
            kind = "base" if hook in REQUIRED_HOOKS else "plain"
            drawing.box(170 + place * 194, y, 188, 30, (hook,), kind, mono=[0])
    drawing.text(WIDTH - 12, 218, "filled: required, empty: optional", room=250, anchor="end", ink="quiet")


def _chunk(drawing: Drawing, top: float, settings: Any) -> None:
    """One chunk, from what is given to its frames."""
    drawing.text(12, top - 12, "How a chunk is made", room=WIDTH - 24, size=19, bold=True)
    for x, y, height, name in (
        (LEFT, 0, 556, "core: vace_adapt"),
        (RIGHT, 0, 380, "plugin: the base's own loop"),
        (RIGHT, 390, 166, "core again"),
    ):
        drawing.rect(x - 10, top + y, PANEL, height, "panel", radius=8)
        drawing.text(x, top + y + 26, name, room=INNER, size=16, bold=True)
    _control(drawing, top, settings)
    _loop(drawing, top, settings)
    drawing.arrow(
        (LEFT + INNER, top + 450), (BETWEEN, top + 450), (BETWEEN, top + 208), (RIGHT + 14, top + 208), kind="hint"
    )
    drawing.text(LEFT + INNER, top + 516, "hints of the chunk's rows", room=INNER, ink="hint", anchor="end")
    _frames(drawing, top, settings)
    lines = (
        "No hook is called for each block or each denoise step. What is fed or changed, from whatever",
        f"thread, takes effect at the next chunk. The numbers are those of {settings.name}.",
    )
    for i, line in enumerate(lines):
        drawing.text(12, top + 584 + 22 * i, line, room=WIDTH - 20)


def _control(drawing: Drawing, top: float, settings: Any) -> None:
    """From what is given to the context path."""
    half = (INNER - 10) / 2
    x = LEFT + half + 10
    first, second = LEFT + half / 2, x + half / 2
    drawing.box(LEFT, top + 40, half, 66, ("references", "hold until changed"), "reference", bold=[0])
    drawing.box(x, top + 40, half, 66, ("frames, mask,", "keyframes", "of this chunk"), "context", bold=[0, 1])
    drawing.arrow((second, top + 106), (second, top + 130))
    drawing.box(x, top + 132, half, 66, ("annotators,", "composition", "vace_annotator"), "context", mono=[2])
    drawing.arrow((second, top + 198), (second, top + 222))
    drawing.arrow((first, top + 106), (first, top + 222))
    drawing.box(LEFT, top + 224, half, 66, ("VAE encode,", "each alone,", "once"), "reference")
    own = f"{settings.chunk_latents} latent frames"
    drawing.box(x, top + 224, half, 66, ("VAE encode,", "causal, streaming:", own), "context")
    for middle in (first, second):
        drawing.arrow((middle, top + 290), (middle, top + 314))
    channels = f"control latents, {settings.backbone.control_channels} channels:"
    drawing.box(LEFT, top + 316, INNER, 56, (channels, "inactive | reactive | mask"), "context")
    drawing.arrow((LEFT + INNER / 2, top + 372), (LEFT + INNER / 2, top + 408))
    path = ("context path", "VACE's blocks over references + chunk;", "reference keys last from chunk to chunk")
    drawing.box(LEFT, top + 410, INNER, 80, path, "hint", bold=[0])


def _loop(drawing: Drawing, top: float, settings: Any) -> None:
    """The plugin's loop over one chunk."""
    middle = RIGHT + INNER / 2
    drawing.box(RIGHT, top + 40, INNER, 46, ("prompt and noise of the chunk",), "plain")
    drawing.arrow((middle, top + 86), (middle, top + 110))
    drawing.rect(RIGHT, top + 112, INNER, 256, "base", radius=6)
    drawing.text(RIGHT + 12, top + 134, "vace_stream", room=INNER - 24, mono=True, bold=True)
    inner, space = RIGHT + 16, INNER - 32
    steps = f"{len(settings.denoising_steps)} denoise steps, {settings.chunk_latents} latent frames"
    lines = (steps, "base block, + hint, base block,", "base block, + hint, ...", "attention also sees the cache")
    drawing.box(inner, top + 146, space, 124, lines, "plain", bold=[0])
    drawing.arrow((middle, top + 270), (middle, top + 281), head=4)
    drawing.box(inner, top + 282, space, 30, ("clean pass, without hints",), "plain")
    drawing.arrow((middle, top + 312), (middle, top + 323), head=4)
    drawing.box(inner, top + 324, space, 34, ("vace_cache_ops: the KV cache",), "window")
    drawing.arrow((middle, top + 368), (middle, top + 426))


def _frames(drawing: Drawing, top: float, settings: Any) -> None:
    """From finished latents to frames."""
    own = settings.chunk_latents
    time = TimeMap(own, own, settings.backbone.stride[0])
    frames = f"{time.pixels(1)} frames ({time.pixels(0)} in the first chunk)"
    drawing.box(
        RIGHT, top + 428, INNER, 48, ("streaming VAE decode, or the plugin's", "vace_decode"), "plain", mono=[1]
    )
    drawing.arrow((RIGHT + INNER / 2, top + 476), (RIGHT + INNER / 2, top + 496))
    drawing.box(RIGHT, top + 498, INNER, 48, (frames, "vace_chunk_done"), "plain", mono=[1])
