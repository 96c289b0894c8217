"""Models to be timed: the real classes, random weights. Time does not depend on their values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from vace_adapt.context.blocks import ContextPath
from vace_adapt.contract import Backbone
from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, tiny_text_encoder, tiny_vae
from vace_adapt.facade import PipelineHooks
from vace_adapt.loading import load_plugin
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt.weights.modules import FLOAT32_PARTS

Module = TypeVar("Module", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Size:
    """One size of everything.

    Attributes:
        backbone: of the base; the context blocks share it. The text encoder is always the tiny one, which runs once a
            prompt.
        layers: base blocks that receive hints.
        resolutions: height and width in pixels; the first is taken where resolution is not the question.
        vae: makes the autoencoder.
    """

    backbone: Backbone
    layers: tuple[int, ...]
    resolutions: tuple[tuple[int, int], ...]
    vae: Callable[[], nn.Module]


_TEXT = {"text_dim": TINY.text_dim, "text_len": 512}
_REAL = ((480, 832), (368, 640))

SIZES = {
    "tiny": Size(TINY, TINY_CONTROL_LAYERS, ((32, 48), (48, 64)), lambda: tiny_vae(0)),
    "mid": Size(
        Backbone(dim=384, ffn_dim=2240, heads=6, layers=12, text_dim=TINY.text_dim, text_len=32),
        tuple(range(0, 12, 2)),
        ((160, 256), (112, 176), (80, 128)),
        lambda: tiny_vae(0),
    ),
    "1.3b": Size(
        Backbone(dim=1536, ffn_dim=8960, heads=12, layers=30, **_TEXT), tuple(range(0, 30, 2)), _REAL, AutoencoderKLWan
    ),
    "14b": Size(
        Backbone(dim=5120, ffn_dim=13824, heads=40, layers=40, **_TEXT), tuple(range(0, 40, 5)), _REAL, AutoencoderKLWan
    ),
}
"""The last two have the numbers of Wan2.1-VACE-1.3B and -14B (their ``config.json``)."""


class Models:
    """The modules of one size, shared by every pipeline that is timed.

    Args:
        size: which.
        device, dtype: of all of them; some parameters stay float32 as in the product.
        compiled: whether blocks run under `torch.compile`.
    """

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype, *, compiled: bool = False) -> None:
        self.size = size
        self.device = device
        self.dtype = dtype
        self.compiled = compiled
        self.base = drawn(lambda: CausalWan.of(size.backbone), device, dtype)
        self.vae = drawn(size.vae, device, dtype, float32_parts=())
        self.text_encoder = tiny_text_encoder(0)
        self.text_encoder.length = size.backbone.text_len
        self.text_encoder.to(device, dtype)
        self._context: ContextPath | None = None

    def context(self) -> ContextPath:
        """The context path, made when it is first asked for."""
        if self._context is None:
            size = self.size
            self._context = drawn(lambda: ContextPath(size.backbone, size.layers), self.device, self.dtype)
        return self._context

    def pipeline(
        self, name: str = "longlive", *, control: bool = True, hooks: PipelineHooks | None = None, **settings: Any
    ) -> Pipeline:
        """A pipeline over these modules.

        Args:
            name: of the plugin.
            control: whether it has the context path.
            hooks: another plugin of that name.
            settings: of the plugin, beside its defaults.
        """
        hooks = hooks or load_plugin(name)
        chosen = hooks.settings_type().model_validate({"name": name, **settings})
        parts = dataclasses.replace(
            hooks.tiny_pipeline(chosen, 0),
            model=self.base,
            device=self.device,
            dtype=self.dtype,
            backbone=self.size.backbone,
            vae=self.vae,
            text_encoder=self.text_encoder,
        )
        pipe = Pipeline(hooks, parts, self.context() if control else None)
        return pipe.compile() if self.compiled else pipe


def drawn(
    build: Callable[[], Module],
    device: torch.device,
    dtype: torch.dtype,
    float32_parts: tuple[str, ...] = FLOAT32_PARTS,
) -> Module:
    """A module whose parameters are drawn on the device, each in its own dtype; never a second copy of it anywhere."""
    with torch.device("meta"):
        module = build()
    generator = torch.Generator(device).manual_seed(0)

    def draw(name: str, shape: torch.Size) -> Tensor:
        own = torch.float32 if any(part in name for part in float32_parts) else dtype
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            return torch.ones(shape, dtype=own, device=device)
        if len(shape) < 2:
            return torch.zeros(shape, dtype=own, device=device)
        noise = torch.randn(shape, dtype=own, device=device, generator=generator)
        return noise.div_(math.sqrt(shape[1:].numel()))

    state = {name: draw(name, tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)
