"""FramePack's two loops: ``f1`` makes a video from its start, ``inverted`` all sections of it from its end.

In own words after lllyasviel/FramePack demo_gradio_f1.py and demo_gradio.py (``worker``). A picture that stands behind
a section (end image, keyframes) takes the place of the nearest frame.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from vace_adapt.contract import Chunk, Hints, HintSource, Stream
from vace_adapt.errors import SessionError
from vace_adapt_framepack.history import PackedHistory
from vace_adapt_framepack.hunyuan.context import control_of
from vace_adapt_framepack.hunyuan.model import HunyuanDenoiser, refuse_step_cache
from vace_adapt_framepack.hunyuan.parts import HunyuanParts, HunyuanPrompt
from vace_adapt_framepack.hunyuan.pictures import encoded, picture
from vace_adapt_framepack.plan import SectionLayout, forward_layout, in_time, inverted_layout, paddings
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.solver import UniPc, framepack_solver
from vace_adapt_framepack.wan.loop import keeping

HintsOf = Callable[[Chunk], HintSource | None]


class FramePackLoop:
    """Makes sections.

    Args:
        denoiser: the base model.
        solver: its steps.
        history: what the sections see of those that were made.
        hints: of a chunk's passes.
        guidance: scale of classifier-free guidance; 1 leaves it out.
        negative: the negative prompt; None where there is no guidance.
    """

    def __init__(
        self,
        denoiser: HunyuanDenoiser,
        solver: UniPc,
        history: PackedHistory,
        hints: HintsOf = lambda chunk: None,
        guidance: float = 1.0,
        negative: HunyuanPrompt | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._solver = solver
        self._history = history
        self._hints = hints
        self._guidance = guidance
        self._negative = negative

    def run(
        self,
        chunk: Chunk,
        layout: SectionLayout,
        *,
        nearest: Tensor | None = None,
        strength: float = 1.0,
        keep: Callable[[Tensor], Tensor] = lambda latents: latents,
    ) -> Tensor:
        """Make one section: finished latents [B, C, F, h, w]; the history takes them.

        Args:
            chunk: where its noise and prompt come from; of a first chunk the start frame is not made.
            layout: its frame indices.
            nearest: [B, C, 1, h, w] in place of the nearest frame.
            strength: below 1 the section starts from the video fed for it, noised to that level.
            keep: puts what must be kept of an estimate in place.
        """
        packed = self._history.pack()
        if nearest is not None:
            packed = packed._replace(clean=torch.cat([packed.clean[:, :, :1], nearest], dim=2))
        noise = chunk.noise(0)[:, :, -len(layout.noisy) :]
        noisy = noise.float()
        if strength < 1:
            if chunk.video is None:
                raise SessionError(f"strength {strength} starts from a video, and none was fed for chunk {chunk.index}")
            video = chunk.video.latents[:, :, -len(layout.noisy) :].float()
            noisy = (1 - strength) * video + strength * noisy
        self._solver.begin()
        hints, prompt = self._hints(chunk), cast("HunyuanPrompt", chunk.text)
        for step, (timestep, sigma) in enumerate(self._solver.levels):
            given = noisy.to(noise.dtype)
            step_hints = hints or chunk.denoising(step, sigma)
            flow = self._denoiser(given, timestep, prompt, packed, layout, step_hints)
            if self._negative is not None:
                without = self._denoiser(given, timestep, self._negative, packed, layout, hints)
                flow = without + self._guidance * (flow - without)
            noisy = self._solver.step(step, keeping(keep, noisy, flow, sigma), noisy)
        finished = keep(noisy.to(noise.dtype))
        self._history.push(finished)
        return finished


def run_stream(parts: HunyuanParts, stream: Stream) -> Generator[Tensor]:
    """Every chunk of a stream (`vace_stream`). The first one has the start frame in front of its section."""
    settings, shapes, batch = parts.settings, stream.shapes, stream.batch
    frames = settings.chunk_latents
    start_picture = picture(settings.start_image, batch, shapes)
    start = encoded(parts, start_picture)
    assert parts.image_encoder is not None
    image = parts.image_encoder(start_picture[:, :, 0]).to(parts.device, parts.dtype)
    if parts.context is not None:
        refuse_step_cache(parts.model, parts.layout)
    denoiser = HunyuanDenoiser(parts.model, parts.layout, stream.injecting, image, settings.distilled_guidance)
    solver = framepack_solver(parts.steps, frames * shapes.frame_tokens, settings.strength)
    negative = None
    if settings.guidance_scale > 1:
        negative = parts.text_encoder([settings.negative_prompt] * batch).to(parts.device, parts.dtype)
    hints = _hints_of(parts, stream)
    loop = FramePackLoop(denoiser, solver, stream.cache, hints, settings.guidance_scale, negative)

    def section(chunk: Chunk, layout: SectionLayout, nearest: Tensor | None = None) -> Tensor:
        def keep(latents: Tensor) -> Tensor:
            whole = _whole(chunk, start, latents)
            kept = chunk.keep(whole)
            return latents if kept is whole else kept[:, :, -frames:]

        return loop.run(chunk, layout, nearest=nearest, strength=settings.strength, keep=keep)

    if settings.sampling == "f1":
        layout = forward_layout(frames, settings.history)
        for chunk in stream.chunks():
            if stream.cache.end == 0:
                stream.cache.begin(start)
                stream.cache.push(start)
            yield _whole(chunk, start, section(chunk, layout))
        return
    landings = {int(at): encoded(parts, picture(file, batch, shapes)) for at, file in settings.keyframes.items()}
    if settings.end_image is not None:
        landings.setdefault(settings.sections - 1, encoded(parts, picture(settings.end_image, batch, shapes)))
    for chunks in _all_at_once(stream, settings.sections):
        stream.cache.begin(start)
        yield from _inverted(section, chunks, start, landings, settings)


def _inverted(
    section: Callable[[Chunk, SectionLayout, Tensor | None], Tensor],
    chunks: Sequence[Chunk],
    start: Tensor,
    landings: Mapping[int, Tensor],
    settings: FramePackSettings,
) -> Generator[Tensor]:
    """All sections of a video from the last to the first, handed out in order of time."""
    made: dict[int, Tensor] = {}
    count = len(chunks)
    for order, padding in enumerate(paddings(count)):
        at = in_time(order, count, inverted=True)
        layout = inverted_layout(settings.chunk_latents, padding, settings.history)
        made[at] = section(chunks[at], layout, landings.get(at))
    for at, chunk in enumerate(chunks):
        yield _whole(chunk, start, made[at])


def _all_at_once(stream: Stream, sections: int) -> Generator[list[Chunk]]:
    """The chunks of a whole video."""
    chunks = stream.chunks()
    for first in chunks:
        found = [first]
        while len(found) < sections and stream.waiting:
            found.append(next(chunks))
        if len(found) < sections:
            raise SessionError(
                f"sampling inverted makes all {sections} sections of a video from its end, and {len(found)} of them "
                "can begin: feed the frames of all of them before the first is asked for, or set pipeline.sections"
            )
        yield found


def _hints_of(parts: HunyuanParts, stream: Stream) -> HintsOf:
    """Hints of the plugin's own context blocks, for the chunks that a video is fed for."""
    context, settings = parts.context, parts.settings
    if context is None or settings.context_scale == 0:
        return lambda chunk: None
    context.to(parts.device, parts.dtype)
    gray = torch.zeros((stream.batch, 3, 1, stream.shapes.pixel_height, stream.shapes.pixel_width))
    nothing = encoded(parts, gray)

    def hints_of(chunk: Chunk) -> HintSource | None:
        if chunk.video is None:
            return None
        video = chunk.video.latents[:, :, -settings.chunk_latents :]
        control = control_of(video, nothing.expand_as(video))

        def hints(inputs: object) -> Hints:
            made = context(inputs, control)
            return {layer: hint * settings.context_scale for layer, hint in made.items()}

        return HintSource(hints)

    return hints_of


def _whole(chunk: Chunk, start: Tensor, section: Tensor) -> Tensor:
    """A chunk's latents: the section's, behind the start frame in the first one."""
    return torch.cat([start.to(section), section], dim=2) if chunk.start == 0 else section
