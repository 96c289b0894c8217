"""A loaded pipeline and its streams, as core and a plugin's loop see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vace_adapt.contract.chunks import ChunkShapes
from vace_adapt.contract.declaration import Backbone
from vace_adapt.contract.sites import HintSource, Level

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TextEncoder(Protocol):
    """Prompts to prompt embeddings."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Move the encoder."""
        ...

    def __call__(self, prompts: Sequence[str]) -> Any:
        """[B, text_len, text_dim]; rows past the prompt's own length are zero.

        A plugin without core's context path may give any one object with ``to(device, dtype)`` that its loop takes.
        """
        ...


@dataclass(frozen=True)
class PipelineParts:
    """What a plugin loads: the base model and what belongs to it. The context path is core's.

    Attributes:
        model: the base transformer (`nn.Module`), in the layout named by `layout`.
        layout: one of `PipelineInfo.layouts`.
        settings: the plugin's validated settings (an instance of what `vace_settings` names).
        device, dtype: of the base model.
        backbone: the sizes this model really has.
        vae: on `device`: a diffusers `AutoencoderKLWan`, or whatever `codec` takes.
        text_encoder: see `TextEncoder`.
        draws: noise draws a chunk uses: one for each denoise step, or a single one where a deterministic solver takes
            several steps from it.
        control_layers: of a tiny pipeline, the base blocks that receive hints; None gives it no control. Where control
            weights are read, they say it themselves.
        normalised_input: whether latents given to the base (references, a video to start from) are normalised with the
            VAE's mean and std. What the base makes is de-normalised before decoding in any case: StreamDiffusionV2
            takes raw latents and makes normalised ones.
        starts_from_video: whether the loop wants `Chunk.video`; core encodes it only then.
        chunks_at_once: how many chunks the loop works on at once where they have begun already (`Stream.waiting`); over
            1 only with capability ``stream_batch``.
        codec: makes of `vae` what core encodes and decodes with, in place of `vace_adapt.conditioning.vae.VaeCodec`: an
            object with that class's ``normalise``, ``denormalise``, ``encoder`` and ``decoder``. A VAE other than
            Wan2.1's needs one, and can have no VACE weights.
        hinted_blocks: blocks that receive hints which the plugin's own context blocks make; None where core's do. The
            plugin then reads ``weights.control`` itself.
        solver_steps: denoise steps of a chunk, where they are not as many as its draws.
        trained: False for random weights; the command line says so.
        compiled: whether the blocks run under `torch.compile`; core sets it.
    """

    model: Any
    layout: str
    settings: Any
    device: torch.device
    dtype: torch.dtype
    backbone: Backbone
    vae: Any
    text_encoder: TextEncoder
    draws: int
    control_layers: tuple[int, ...] | None = None
    normalised_input: bool = True
    starts_from_video: bool = False
    chunks_at_once: int = 1
    codec: Callable[[Any], Any] | None = None
    hinted_blocks: tuple[int, ...] | None = None
    solver_steps: int | None = None
    trained: bool = True
    compiled: bool = False

    @property
    def steps(self) -> int:
        """Denoise steps of a chunk."""
        return self.draws if self.solver_steps is None else self.solver_steps


@dataclass(frozen=True)
class SourceVideo:
    """The video that was fed for a chunk, for a base that starts from it, or for a plugin's own context blocks
    (`PipelineParts.hinted_blocks`): these get it as VACE is shown it.

    Attributes:
        latents: [B, C, F, h, w] in the base's dtype, normalised where `PipelineParts.normalised_input` says so.
        motion: of each batch row, the largest root mean square of the difference of two frames that follow each other,
            pixels being in [-1, 1]; the last frame of the chunk before counts if one was fed.
    """

    latents: Tensor
    motion: tuple[float, ...]


class Chunk(Protocol):
    """One chunk as core hands it to a plugin's loop. Read-only; a loop may keep it while it works on later chunks."""

    index: int
    start: int
    """Absolute index of the chunk's first latent frame."""
    frames: int
    """Latent frames of the chunk."""
    text: Tensor
    """[B, text_len, text_dim] prompt embeddings that hold from this chunk on."""
    prompt_changed: bool
    """True for chunk 0 and for the first chunk under another prompt. A recache rewrites sink and window; a memory bank
    keeps what it holds, and may choose by the new prompt when it is full.
    """
    reanchor: Mapping[int, Tensor]
    """From which latents the memory is rebuilt before the chunk runs, by batch row; empty for nothing.

    Each is [1, C, n, h, w], clean, in the base's own normalisation. They stand for the n newest latent frames,
    ``start-n .. start-1``, n being as many as there are and the memory holds (`CacheLayout`: slots without the bank).
    After it the row's memory is that of a stream into which exactly these frames were written, all in one clean pass
    without hints, at those positions and under the prompt in force: the first of them are the sink, and what the memory
    held before is gone, also for later recaches. Rows that are not named keep every bit.
    """
    video: SourceVideo | None
    """What was fed for the chunk, where `PipelineParts.starts_from_video`; None where nothing was, or where it is a
    ready-made control and no picture of what is to be made.
    """

    def noise(self, draw: int) -> Tensor:
        """Standard normal noise [B, C, F, h, w] in the model's dtype: draw 0 starts the chunk, draw i re-noises for
        step i.

        Drawn before the chunk starts; a chunk has `PipelineParts.draws` of them.
        """
        ...

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        """Hints of denoise step `step` at noise level `sigma` in [0, 1], and the references its self-attention sees;
        None means run without.

        The level is that of all rows of the chunk, or one for each of them. Passes of one step and level share what the
        references have computed; with ``hint_reuse`` the hints may be those that an earlier step of the chunk has made.

        Steps of one chunk are asked for in order. A pass may have rows of several chunks, each at another step
        (``stream_batch``): every chunk's source is then called with its own B rows of the `BlockInputs`, and the hints
        of all are put together again by row; rows whose source is None get zeros.
        """
        ...

    def unconditional(self, step: int, sigma: Level) -> HintSource | None:
        """Hints of the pass under the negative prompt that a step of classifier-free guidance takes besides
        `denoising`; asked for right after it.

        The control is in both passes, as in batch VACE, so that guidance strengthens the prompt and not the control. A
        stream has one negative prompt. References in slots do not take part.
        """
        ...

    def keep(self, latents: Tensor) -> Tensor:
        """Estimated finished latents [B, C, F, h, w] with what must be kept put in place (``preserve: latent``).

        A loop passes every estimate through it, at each denoise step and at the end, before it re-noises or caches
        them. Where nothing must be kept it gives back the tensor it got.
        """
        ...

    def clean_pass(self, sigma: float) -> HintSource | None:
        """The same for the clean pass; None unless ``kv_policy: with_hints``."""
        ...

    def recaching(self) -> HintSource | None:
        """Hints of a recache; core always answers None, since the controls of past chunks are gone."""
        ...


class Stream(Protocol):
    """The session as a plugin's loop sees it."""

    cache: Any
    """What this plugin's `vace_cache_ops` returned."""
    shapes: ChunkShapes
    batch: int

    @property
    def waiting(self) -> int:
        """How many chunks have begun that `chunks` has not handed out yet.

        A chunk begins when its finished latents are asked for; or before, while fewer than
        `PipelineParts.chunks_at_once` are begun and not finished, if all its frames are fed and nothing is re-anchored
        before it. What it is made from, its prompt and its references are settled then. What is made of it must not
        depend on whether others begin before it is finished: only how fast.
        """
        ...

    def chunks(self) -> Iterator[Chunk]:
        """The chunks, one after another; ends when the stream is closed.

        A loop asks for one when it has none to work on, or while some are `waiting`.
        """
        ...

    def injecting(self, hints: HintSource | None) -> AbstractContextManager[None]:
        """For layouts with `Injection.HOOKS`: within it, this thread's calls of the model run with these hints."""
        ...


@dataclass(frozen=True)
class ChunkReport:
    """What observers are told after each chunk (`vace_chunk_done`).

    Attributes:
        index: chunk number.
        latent_start, latents: first latent frame and number of latent frames.
        pixels: pixel frames handed out.
        seconds: wall time from asking for the chunk to having its frames.
        controlled: whether the context path ran.
        references: number of references in force.
        cache_bytes: bytes of the base model's cache and of what the context path and ``controls.reanchor`` remember.
            The memories of the VAE's causal convolutions, which grow with the picture and not with the stream, are not
            in it.
        peak_memory_bytes: peak device memory (CUDA) or peak resident memory of the process so far.
        drift: of each batch row, how far its latents have wandered from chunk 0 in colour and contrast; 0 at chunk 0.
            See `vace_adapt.streaming.drift`.
        reanchored: whether the memory of any row was rebuilt before the chunk (``controls.reanchor``).
    """

    index: int
    latent_start: int
    latents: int
    pixels: int
    seconds: float
    controlled: bool
    references: int
    cache_bytes: int
    peak_memory_bytes: int
    drift: tuple[float, ...]
    reanchored: bool

    @property
    def fps(self) -> float:
        return self.pixels / self.seconds


@dataclass(frozen=True)
class Comparison:
    """What a replay of a golden file found (`vace_replay`).

    Attributes:
        rows: label (``chunk 3``, ``cache 0.k``) and max abs error, in the order they were made; NaN counts as infinite.
    """

    rows: tuple[tuple[str, float], ...]

    @property
    def worst(self) -> float:
        return max(error for _, error in self.rows)
