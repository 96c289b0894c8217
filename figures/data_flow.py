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

LEFT, RIGHT = 22, 392
COLUMN = 346


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
    drawing = Drawing(956, "Data flow of one chunk, and the hooks of a plugin")
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
    drawing.text(WIDTH - 12, 218, "blue: required, white: optional", room=250, anchor="end", ink="quiet")


def _chunk(drawing: Drawing, top: float, settings: Any) -> None:
    """One chunk, from what is given to its frames."""
    backbone, own = settings.backbone, settings.chunk_latents
    time = TimeMap(own, own, backbone.stride[0])
    drawing.text(12, top - 12, "How a chunk is made", room=WIDTH - 24, size=19, bold=True)
    for x, name in ((LEFT, "core: vace_adapt"), (RIGHT, "plugin: the base's own loop")):
        drawing.rect(x - 10, top, COLUMN + 8 if x == LEFT else COLUMN + 10, 552, "panel", radius=8)
        drawing.text(x, top + 26, name, room=COLUMN, size=16, bold=True)
    width = COLUMN - 12
    half = (width - 10) / 2
    drawing.box(LEFT, top + 40, half, 66, ("references", "hold until changed"), "reference", bold=[0])
    x = LEFT + half + 10
    drawing.box(x, top + 40, half, 66, ("frames, mask,", "keyframes", "of this chunk"), "context", bold=[0, 1])
    drawing.arrow((x + half / 2, top + 106), (x + half / 2, top + 130))
    drawing.box(
        x, top + 132, half, 66, ("annotators,", "composition", "vace_annotator"), "context", mono=[2], size=14.5
    )
    drawing.arrow((x + half / 2, top + 198), (x + half / 2, top + 222))
    drawing.arrow((LEFT + half / 2, top + 106), (LEFT + half / 2, top + 222))
    drawing.box(LEFT, top + 224, half, 66, ("VAE encode,", "each alone,", "once"), "reference")
    drawing.box(x, top + 224, half, 66, ("VAE encode,", "causal, streaming:", f"{own} latent frames"), "context")
    lines = (f"control latents, {backbone.control_channels} channels:", "inactive | reactive | mask")
    drawing.arrow((LEFT + half / 2, top + 290), (LEFT + half / 2, top + 314))
    drawing.arrow((x + half / 2, top + 290), (x + half / 2, top + 314))
    drawing.box(LEFT, top + 316, width, 52, lines, "context")
    drawing.arrow((LEFT + width / 2, top + 368), (LEFT + width / 2, top + 392))
    drawing.box(
        LEFT, top + 394, width, 72,
        ("context path", "VACE's blocks over references + chunk;", "keys of references made once a step"),
        "hint", bold=[0],
    )  # fmt: skip
    _loop(drawing, top, settings)
    y = top + 430
    drawing.arrow((LEFT + width, y), (372, y), (372, top + 208), (RIGHT, top + 208), kind="hint")
    drawing.text(LEFT + width - 4, top + 488, "hints of the chunk's rows", room=220, ink="hint", anchor="end")
    drawing.box(RIGHT, top + 394, COLUMN - 8, 72, ("streaming VAE decode, or", "vace_decode"), "plain", mono=[1])
    drawing.arrow((RIGHT + COLUMN / 2, top + 466), (RIGHT + COLUMN / 2, top + 490))
    frames = f"{time.pixels(1)} frames ({time.pixels(0)} in the first chunk)"
    drawing.box(RIGHT, top + 492, COLUMN - 8, 48, (frames, "vace_chunk_done"), "plain", mono=[1])
    drawing.text(
        12, top + 578, "No hook is called for each block or each denoise step; between chunks", room=WIDTH - 24
    )
    drawing.text(12, top + 600, "whatever was fed or changed takes effect, from whatever thread.", room=WIDTH - 24)
    drawing.text(12, top + 628, f"Numbers: {plugin_title(settings)}", room=WIDTH - 24, ink="quiet")


def _loop(drawing: Drawing, top: float, settings: Any) -> None:
    """The plugin's loop over one chunk."""
    width, steps = COLUMN - 8, len(settings.denoising_steps)
    drawing.box(RIGHT, top + 40, width, 46, ("prompt and noise of the chunk",), "plain")
    drawing.arrow((RIGHT + width / 2, top + 86), (RIGHT + width / 2, top + 110))
    drawing.rect(RIGHT, top + 112, width, 256, "base", radius=6)
    drawing.text(RIGHT + 12, top + 134, "vace_stream", room=width - 24, mono=True, bold=True)
    inner, space = RIGHT + 16, width - 32
    drawing.box(inner, top + 146, space, 124, (), "plain")
    lines = (
        f"{steps} denoise steps, {settings.chunk_latents} latent frames", "base block, + hint, base block,",
        "base block, + hint, ...", "attention also sees the cache",
    )  # fmt: skip
    for i, line in enumerate(lines):
        drawing.text(inner + space / 2, top + 170 + 25 * i, line, room=space - 12, anchor="middle", bold=i == 0)
    drawing.box(inner, top + 282, space, 30, ("clean pass, without hints",), "plain")
    drawing.arrow((inner + space / 2, top + 270), (inner + space / 2, top + 281), head=4)
    drawing.box(inner, top + 324, space, 34, ("vace_cache_ops: the KV cache",), "window")
    drawing.arrow((inner + space / 2, top + 312), (inner + space / 2, top + 323), head=4)
    drawing.arrow((RIGHT + width / 2, top + 368), (RIGHT + width / 2, top + 392))


def plugin_title(settings: Any) -> str:
    """Whose numbers these are."""
    return f"{settings.name}, {settings.slots} latent frames in the cache, {settings.sink} of them the sink"
