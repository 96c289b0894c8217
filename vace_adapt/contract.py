"""The frozen types that cross the hooks: what a plugin declares, what it receives, what it returns.

Importing this file does not import torch, so that ``vace-adapt list`` and ``show`` stay fast and work without it.
Shapes: B batch, F latent frames of a chunk, h and w latent height and width, L tokens of a chunk, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, model_validator

from vace_adapt.errors import InputError
from vace_adapt.time_map import TimeMap

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Frozen(BaseModel):
    """Base of every pydantic type of the framework: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- what a plugin declares -------------------------------------------------------------------------------------------


class Support(StrEnum):
    """How far a capability goes."""

    FULL = "full"
    UNSUPPORTED = "unsupported"  # the base model cannot do it
    NOT_IMPLEMENTED = "not implemented"  # the base model could, the plugin does not yet


class Capability(Frozen):
    """One declared capability. Anything but `Support.FULL` needs a reason."""

    support: Support
    reason: str = ""

    @model_validator(mode="after")
    def _reason_given(self) -> Capability:
        if self.support is not Support.FULL and not self.reason:
            raise ValueError(f"a capability that is {self.support.value!r} needs a reason")
        return self


CAPABILITIES: Mapping[str, str] = {
    "sink": "the first latent frames stay in the cache for good",
    "window": "only the newest latent frames stay in the cache",
    "bank": "selected old keys and values are kept in a memory bank",
    "packed_history": "history enters as packed tokens instead of a KV cache",
    "clean_pass": "the finished chunk is run once more at context noise to write the cache",
    "prompt_switch": "the prompt can change inside a stream",
    "relative_rope": "temporal positions can be relative to the window",
    "stream_batch": "batch rows are different chunks at different steps",
    "lora": "a LoRA shipped with the base model can be loaded",
    "live_model": "attaches to a model object of the official repository",
}


class Backbone(Frozen):
    """Sizes of a Wan2.1-shaped transformer and of the VAE it was trained with.

    Attributes:
        dim: model width. `heads` must divide it.
        ffn_dim: width of the feed-forward layers.
        heads, layers: attention heads, transformer blocks.
        text_dim, text_len: width and number of the text encoder's output tokens.
        freq_dim: width of the sinusoidal timestep embedding.
        latent_channels: channels of a latent frame.
        patch: latent frames, rows and columns of one token.
        stride: pixel frames, rows and columns of one latent position.
        cross_attn_norm: whether the text attention has its own layer norm.
        eps: epsilon of the norms.
    """

    dim: int
    ffn_dim: int
    heads: int
    layers: int
    text_dim: int = 4096
    text_len: int = 512
    freq_dim: int = 256
    latent_channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    stride: tuple[int, int, int] = (4, 8, 8)
    cross_attn_norm: bool = True
    eps: float = 1e-6

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Backbone:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def control_channels(self) -> int:
        """Channels of the control latents: inactive and reactive latents, then one per pixel of a latent position."""
        return 2 * self.latent_channels + self.stride[1] * self.stride[2]


class Injection(StrEnum):
    """How hints enter a model of some layout."""

    ARGUMENTS = "arguments"  # the model takes a `HintSource` in its forward
    HOOKS = "hooks"  # core puts `nn.Module` hooks on the located blocks


class PipelineInfo(Frozen):
    """Who a plugin is and what it can do (`vace_describe`).

    Attributes:
        name: the word in ``pipeline=NAME``; equals the entry-point name.
        title: one line for ``vace-adapt list``.
        hook_api: the `HOOK_API` the plugin was written against.
        upstream: official repository and commit, ``owner/name@commit``.
        backbones: sizes by name, as the official weights have them.
        layouts: declared model layouts and how hints enter each; the first is the plugin's own model.
        capabilities: one entry for every key of `CAPABILITIES`.
        golden_formats: values of ``pipeline`` in golden files that `vace_replay` reads.
    """

    name: str
    title: str
    hook_api: int
    upstream: str
    backbones: dict[str, Backbone]
    layouts: dict[str, Injection]
    capabilities: dict[str, Capability]
    golden_formats: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _capabilities_complete(self) -> PipelineInfo:
        missing = sorted(set(CAPABILITIES) - set(self.capabilities))
        unknown = sorted(set(self.capabilities) - set(CAPABILITIES))
        if missing or unknown:
            raise ValueError(f"capabilities: missing {missing}, unknown {unknown}")
        return self


class PipelineSettings(Frozen):
    """Base of a plugin's ``pipeline:`` section (`vace_settings`); the plugin adds its own numbers."""

    name: str


class WeightsSettings(Frozen):
    """Where the weights are. Each is a path or a hub id ``org/name``; all None means the embedded tiny pipeline.

    Attributes:
        base: the streaming base model.
        lora: a LoRA on the base, as the base's authors ship it.
        lora_mode: ``merged`` into the base weights, or ``live`` beside them (can be switched off again).
        vae: the Wan2.1 VAE, original or diffusers layout.
        text_encoder: UMT5, original or transformers layout.
        tokenizer: folder of the tokenizer; None means inside `text_encoder`.
        control: VACE weights, any of the three layouts; None leaves the pipeline without control.
        download: allow fetching a hub id that is not in the local cache.
    """

    base: str | None = None
    lora: str | None = None
    lora_mode: Literal["merged", "live"] = "merged"
    vae: str | None = None
    text_encoder: str | None = None
    tokenizer: str | None = None
    control: str | None = None
    download: bool = False

    @property
    def embedded(self) -> bool:
        return not any((self.base, self.lora, self.vae, self.text_encoder, self.tokenizer, self.control))


# --- where hints enter a base model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockInputs:
    """What the context path needs from the base model, read where the chunk enters block 0.

    Attributes:
        hidden: [B, L, D] tokens of the chunk, in the base's dtype.
        modulation: [B, 6, D] timestep projection, before a block adds its own table. One timestep for each batch row.
        text: [B, T, D] prompt tokens after the base's text embedding.
    """

    hidden: Tensor
    modulation: Tensor
    text: Tensor


Hints = Mapping[int, "Tensor"]
"""Scaled hints by base block index; each [B, L, D] is added to the chunk rows of that block's output."""

HintSource = Callable[[BlockInputs], Hints]
"""Computes the hints of one forward pass; called once, where the chunk enters block 0."""

Attend = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Attention of a context block: query [B, L, H, d], key and value [B, K, H, d] (rotated) to [B, L, H, d]."""


@dataclass(frozen=True)
class BlockSite:
    """One transformer block of a base model, as data plus three pure functions.

    Attributes:
        path: dotted path from the model, as `nn.Module.get_submodule` takes it.
        read: positional and keyword arguments of the block's call to `BlockInputs`.
        hidden: the block's output to its hidden states [B, N, D]; the chunk's tokens are the last L of the N rows.
        write: the block's output and new hidden states to an output of the same structure.
    """

    path: str
    read: Callable[[tuple[Any, ...], Mapping[str, Any]], BlockInputs]
    hidden: Callable[[Any], Tensor]
    write: Callable[[Any, Tensor], Any]


@dataclass(frozen=True)
class BlockMap:
    """Where the blocks of a base model are, in execution order, and the module that makes tokens of latents.

    Attributes:
        sites: every transformer block, in the order the model runs them.
        patch_embedding: dotted path of the Conv3d from latents [B, C, F, h, w] to [B, D, F, h/2, w/2].
    """

    sites: tuple[BlockSite, ...]
    patch_embedding: str


# --- chunks and caches ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChunkShapes:
    """Sizes of one stream's chunks.

    Attributes:
        time: latent and pixel frames of every chunk.
        channels: latent channels.
        height, width: latent height and width.
        patch: latent frames, rows, columns of a token.
        stride: pixel frames, rows, columns of a latent position.
    """

    time: TimeMap
    channels: int
    height: int
    width: int
    patch: tuple[int, int, int]
    stride: tuple[int, int, int]

    @classmethod
    def of(cls, backbone: Backbone, time: TimeMap, height: int, width: int) -> ChunkShapes:
        """Shapes of a stream of `height` x `width` pixels.

        Raises:
            InputError: a side is not a positive multiple of VAE stride times patch (16 pixels for Wan2.1).
        """
        for name, side, stride, patch in (
            ("height", height, backbone.stride[1], backbone.patch[1]),
            ("width", width, backbone.stride[2], backbone.patch[2]),
        ):
            unit = stride * patch
            if side < unit or side % unit:
                low = max(unit, side // unit * unit)
                raise InputError(
                    f"{name} {side} is not a positive multiple of {unit}: nearest are {low} and {low + unit}"
                )
        h, w = height // backbone.stride[1], width // backbone.stride[2]
        return cls(time, backbone.latent_channels, h, w, backbone.patch, backbone.stride)

    @property
    def pixel_height(self) -> int:
        return self.height * self.stride[1]

    @property
    def pixel_width(self) -> int:
        return self.width * self.stride[2]

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns of one latent frame."""
        return self.height // self.patch[1], self.width // self.patch[2]

    @property
    def frame_tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns

    def latent_shape(self, batch: int, chunk: int) -> tuple[int, int, int, int, int]:
        """[B, C, F, h, w] of a chunk."""
        return batch, self.channels, self.time.latents(chunk), self.height, self.width


@dataclass(frozen=True)
class CacheLayout:
    """What kind of memory a stream has, in latent frames.

    Attributes:
        kind: ``ring`` (sink + window), ``ring+bank``, ``packed`` or ``foreign`` (owned by a live official model).
        slots: latent frames it can hold in all; never grows.
        sink: of these, how many stay for good.
        bank: of these, how many are selected memories.
    """

    kind: str
    slots: int
    sink: int
    bank: int = 0


@runtime_checkable
class CacheOps(Protocol):
    """The memory of one stream: made when it opens, used by the plugin's loop, inspected by core.

    Nothing in it grows with the length of the stream, and nothing in it is shared between streams.
    """

    layout: CacheLayout

    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor of the memory by name; the same objects for the whole stream."""
        ...

    def positions(self) -> Sequence[int]:
        """Absolute latent frame held by each slot; -1 for an unused slot."""
        ...

    def snapshot(self) -> Any:
        """A copy of the whole state."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Put a `snapshot` back, bit for bit, into the same tensors."""
        ...

    def reset(self) -> None:
        """Back to the state of a fresh stream, in the same tensors."""
        ...


# --- a pipeline and its stream ----------------------------------------------------------------------------------------


class TextEncoder(Protocol):
    """Prompts to prompt embeddings."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Move the encoder."""
        ...

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, text_len, text_dim]; rows past the prompt's own length are zero."""
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
        vae: a diffusers `AutoencoderKLWan`, on `device`.
        text_encoder: see `TextEncoder`.
        draws: noise draws a chunk uses, one for each denoise step.
        control_layers: base blocks that receive hints, if the plugin knows them (the tiny pipeline does).
        normalised: whether the base's video latents are normalised with the VAE's mean and std.
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
    normalised: bool = True
    trained: bool = True
    compiled: bool = False


class Chunk(Protocol):
    """One chunk as core hands it to a plugin's loop. Read-only; valid until the loop asks for the next."""

    index: int
    start: int
    """Absolute index of the chunk's first latent frame."""
    frames: int
    """Latent frames of the chunk."""
    text: Tensor
    """[B, text_len, text_dim] prompt embeddings that hold from this chunk on."""
    prompt_changed: bool
    """True for chunk 0 and for the first chunk under another prompt."""

    def noise(self, draw: int) -> Tensor:
        """Standard normal noise [B, C, F, h, w] in the model's dtype: draw 0 starts the chunk, draw i re-noises for
        step i.

        Drawn before the chunk starts; a chunk has `PipelineParts.draws` of them.
        """
        ...

    def denoising(self, step: int, sigma: float) -> HintSource | None:
        """Hints of denoise step `step` at noise level `sigma` in [0, 1]; None means run without hints."""
        ...

    def clean_pass(self, sigma: float) -> HintSource | None:
        """Hints of the clean pass; None unless ``kv_policy: with_hints``."""
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

    def chunks(self) -> Iterator[Chunk]:
        """The chunks, one after another, each when the caller asks for it; ends when the stream is closed."""
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
        cache_bytes: bytes of the stream's memory.
        peak_memory_bytes: peak device memory (CUDA) or peak resident memory of the process so far.
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
