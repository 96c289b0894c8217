"""VACE over one clip, on diffusers' transformer. Shapes: F latent frames of the clip, R references, h and w latent
size.

After ali-vilab/VACE vace/models/wan/wan_vace.py: each reference is encoded alone and stands in front of the clip in
the latents, is denoised with it, and cut off at the end; hints are made in both passes of the guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import WanVACETransformer3DModel
from torch import Tensor

from vace_adapt.batch.declaration import BatchVaceSettings
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.pixels import tensor_to_frames
from vace_adapt.conditioning.vae import DecoderStream, VaeCodec
from vace_adapt.contract import WeightsSettings
from vace_adapt.embedded.family import FAMILY, FAMILY_FOLDER
from vace_adapt.errors import CheckpointError
from vace_adapt.streaming.noise import draw
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae


@dataclass(frozen=True)
class Shown:
    """What VACE is shown.

    Attributes:
        frames: float32 [1, 3, T, H, W] in [-1, 1].
        mask: float32 [1, 1, T, H, W] in [0, 1]; None is all 1.
        references: float32 [1, 3, R, H, W] in [-1, 1]; None for none.
        scales: of the hints, one for each context layer.
    """

    frames: Tensor
    mask: Tensor | None
    references: Tensor | None
    scales: Sequence[float]


class BatchVace:
    """The published method.

    Args:
        model: a `WanVACETransformer3DModel`.
        vae: an `AutoencoderKLWan`.
        text_encoder: prompts to embeddings.
        settings: steps and guidance.
    """

    def __init__(self, model: Any, vae: Any, text_encoder: Any, settings: BatchVaceSettings) -> None:
        self.model = model
        self.codec = VaeCodec(vae)
        self.text_encoder = text_encoder
        self.settings = settings

    @property
    def layers(self) -> int:
        """Context layers."""
        return len(self.model.config.vace_layers)

    @classmethod
    def load(
        cls, weights: WeightsSettings, settings: BatchVaceSettings, device: torch.device, dtype: torch.dtype
    ) -> BatchVace:
        """From the embedded family, or a diffusers folder of WanVACE (``weights.control``).

        Raises:
            CheckpointError: weights that are not given, or not in diffusers' layout.
        """
        where: Any = {"device": device, "dtype": dtype, "download": weights.download}
        weights, length = _files(weights, settings)
        folder = locate(str(weights.control), download=weights.download)
        model = _transformer(folder / "transformer", dtype).to(device)
        vae = load_vae(str(weights.vae), **where)
        width = model.config.text_dim
        words = load_text_encoder(str(weights.text_encoder), weights.tokenizer, length, width, **where)
        return cls(model, vae, words, settings)

    @torch.no_grad()
    def __call__(self, prompt: str, shown: Shown, encoder: ControlEncoder, seed: int) -> tuple[Tensor, Tensor]:
        """One clip.

        Args:
            prompt: what it shows.
            shown: the control.
            encoder: of the clip's size, with one chunk as long as the clip.
            seed: the clip's noise is that of a stream's first chunk under this seed.

        Returns:
            Latents [1, 16, F, h, w], and frames uint8 [1, T, H, W, 3] on the CPU.
        """
        model, settings = self.model, self.settings
        control = encoder.control(0, shown.frames.to(self.codec.device), shown.mask)
        latents = draw([seed], "chunk", 0, (16, *control.shape[2:]))
        references = 0 if shown.references is None else shown.references.shape[2]
        if shown.references is not None:
            control = torch.cat([encoder.references(shown.references)[0], control], dim=2)
            noise = [draw([seed], "reference", i, (16, *control.shape[3:])) for i in range(references)]
            latents = torch.cat([torch.stack(noise, dim=2), latents], dim=2)
        prompts = [prompt] if settings.guidance == 1 else [prompt, settings.negative_prompt]
        rows = len(prompts)
        text = self.text_encoder(prompts).to(model.device, model.dtype)
        scales = torch.tensor(shown.scales, device=model.device, dtype=model.dtype)
        steering = control.to(model.device, model.dtype).repeat(rows, 1, 1, 1, 1)
        latents = latents.to(model.device)
        for now, later in pairwise(noise_levels(settings.steps, settings.shift)):
            noisy = latents.to(model.dtype).repeat(rows, 1, 1, 1, 1)
            timestep = torch.full((rows,), 1000 * now, device=model.device)
            flow = model(noisy, timestep, text, None, steering, scales).sample.float()
            if rows == 2:
                prompted, free = flow.split(1)
                flow = free + settings.guidance * (prompted - free)
            latents = latents + (later - now) * flow
        made = latents[:, :, references:]
        pixels = DecoderStream(self.codec).decode(self.codec.denormalise(made))
        return made, tensor_to_frames(pixels)


def noise_levels(steps: int, shift: float) -> list[float]:
    """Noise levels from 1 to 0, `steps` + 1 of them: evenly spaced, then shifted (Esser et al., arXiv 2403.03206)."""
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (shift * even / (1 + (shift - 1) * even)).tolist()


def _files(weights: WeightsSettings, settings: BatchVaceSettings) -> tuple[WeightsSettings, int]:
    """Where the parts are, and the length of a prompt."""
    if weights.embedded:
        folder = str(FAMILY_FOLDER)
        return WeightsSettings(vae=folder, text_encoder=folder, control=folder), FAMILY.text_len
    if weights.base is not None or weights.lora is not None:
        raise CheckpointError("batch_vace takes no weights.base and no weights.lora: weights.control holds its base")
    if weights.control is None:
        raise CheckpointError("weights.control is not given: batch_vace needs a diffusers folder of WanVACE")
    given = {part: getattr(weights, part) or weights.control for part in ("vae", "text_encoder")}
    return weights.model_copy(update=given), settings.text_len


def _transformer(folder: Path, dtype: torch.dtype) -> Any:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is not there: batch_vace needs a diffusers folder of WanVACE in weights.control"
        )
    with refusing(CheckpointError, f"{folder} is not a WanVACE transformer of diffusers"):
        model = WanVACETransformer3DModel.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    return model.eval().requires_grad_(False)
