"""What a plugin declares: who it is, what it can do, how large its models are, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """Base of every pydantic type of the framework: immutable, unknown keys refused, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Positive = Annotated[int, Field(ge=1)]


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
    "sink": "the first latent frames stay in the cache, for good or until new ones do not resemble them",
    "window": "only the newest latent frames stay in the cache",
    "bank": "selected old keys and values are kept in a memory bank",
    "packed_history": "history enters as packed tokens instead of a KV cache",
    "clean_pass": "the finished chunk is run once more at context noise to write the cache",
    "prompt_switch": "the prompt can change inside a stream",
    "relative_rope": "temporal positions can be relative to the window",
    "stream_batch": "batch rows are different chunks at different steps",
    "preserve_latents": "the loop passes every estimate of its latents through chunk.keep",
    "reference_slots": "references can take part in the base's self-attention from reserved cache slots",
    "reanchor": "the memory can be rebuilt around chosen latents inside a stream",
    "lora": "a LoRA shipped with the base model can be loaded",
    "live_model": "attaches to a model object of the official repository",
}
"""What a plugin declares about its base model. A new key is a new `HOOK_API`: an undeclared capability is a mistake."""


class Backbone(Frozen):
    """Sizes of a Wan2.1-shaped transformer and of the VAE it was trained with; every number is positive.

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

    dim: Positive
    ffn_dim: Positive
    heads: Positive
    layers: Positive
    text_dim: Positive = 4096
    text_len: Positive = 512
    freq_dim: Positive = 256
    latent_channels: Positive = 16
    patch: tuple[Positive, Positive, Positive] = (1, 2, 2)
    stride: tuple[Positive, Positive, Positive] = (4, 8, 8)
    cross_attn_norm: bool = True
    eps: Annotated[float, Field(gt=0)] = 1e-6

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Backbone:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def unit(self) -> tuple[int, int]:
        """Pixel rows and columns of one token: what height and width must be multiples of."""
        return self.stride[1] * self.patch[1], self.stride[2] * self.patch[2]

    @property
    def control_channels(self) -> int:
        """Channels of the control latents: inactive and reactive latents, then one per pixel of a latent position."""
        return 2 * self.latent_channels + self.stride[1] * self.stride[2]


class NativeVideo(Frozen):
    """The video a base model was trained for: what a run makes when nothing else is asked for.

    Attributes:
        height, width: pixels. A video input is shrunk to this area, never enlarged, and keeps its aspect.
        rate: frames a second.
    """

    height: int
    width: int
    rate: int


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
        backbones: sizes by name, as the official weights have them; the first is the default.
        video: size and frame rate the base model was trained for.
        layouts: declared model layouts and how hints enter each; the first is the plugin's own model.
        capabilities: one entry for every key of `CAPABILITIES`.
        exceptions: by layout, the capabilities that are otherwise there.
        golden_formats: values of ``pipeline`` in golden files that `vace_replay` reads.
    """

    name: str
    title: str
    hook_api: int
    upstream: str
    backbones: dict[str, Backbone]
    video: NativeVideo
    layouts: dict[str, Injection]
    capabilities: dict[str, Capability]
    exceptions: dict[str, dict[str, Capability]] = Field(default_factory=dict)
    golden_formats: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _capabilities_complete(self) -> PipelineInfo:
        missing = sorted(set(CAPABILITIES) - set(self.capabilities))
        unknown = sorted(set(self.capabilities) - set(CAPABILITIES))
        if missing or unknown:
            raise ValueError(f"capabilities: missing {missing}, unknown {unknown}")
        return self

    @model_validator(mode="after")
    def _exceptions_known(self) -> PipelineInfo:
        layouts = sorted(set(self.exceptions) - set(self.layouts))
        capabilities = sorted({name for there in self.exceptions.values() for name in there} - set(CAPABILITIES))
        if layouts or capabilities:
            raise ValueError(f"exceptions: unknown layouts {layouts}, unknown capabilities {capabilities}")
        return self


class PipelineSettings(Frozen):
    """Base of a plugin's ``pipeline:`` section (`vace_settings`); the plugin adds its own numbers."""

    name: str


@dataclass(frozen=True)
class EmbeddedBase:
    """The tiny trained base model that ships with a plugin (`vace_embedded_base`).

    Attributes:
        file: of the model, as ``weights.base`` takes it.
        settings: the ones asked for, with the model's own sizes, and numbers that suit it where none were asked for.
    """

    file: str
    settings: PipelineSettings


class WeightsSettings(Frozen):
    """Where the weights are. Each is a path or a hub id ``org/name``; all None means the embedded tiny weights.

    Attributes:
        base: the streaming base model.
        lora: a LoRA on the base, as the base's authors ship it.
        lora_mode: ``merged`` into the base weights, or ``live`` beside them (can be switched off again).
        vae: the Wan2.1 VAE, original or diffusers layout.
        text_encoder: UMT5, original or transformers layout.
        tokenizer: folder of the tokenizer; None means ``tokenizer/`` inside `text_encoder`, or ``google/umt5-xxl/``
            beside a `text_encoder` that is a file.
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
