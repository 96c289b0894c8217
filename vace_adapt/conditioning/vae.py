"""Streaming use of diffusers' `AutoencoderKLWan`: every stream has its own state, the model has none.

The public ``encode`` and ``decode`` of that class keep their causal memory on the model and clear it at every call, so
they cannot continue a stream and two streams would mix. Here its submodules are called with a memory that belongs to
the caller: encode in any chunks equals encode at once, decode likewise, bit for bit.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn

from vace_adapt.errors import CheckpointError, InputError
from vace_adapt.time_map import pixels_of

State = list[Any]
"""The last frames each causal convolution has seen. Entries are replaced, never changed in place."""


class VaeCodec:
    """A VAE with its latent statistics. Pixels are float [B, 3, T, H, W] in [-1, 1], latents [B, C, F, h, w].

    Args:
        vae: an `AutoencoderKLWan`.

    Raises:
        CheckpointError: another kind of VAE, layers of another stride than its config says, or unusable statistics.
    """

    def __init__(self, vae: Any) -> None:
        config = vae.config
        if config.z_dim != 16 or config.scale_factor_spatial != 8 or config.scale_factor_temporal != 4:
            raise CheckpointError(
                f"VACE needs the Wan2.1 VAE (16 channels, 4x8x8), not one of {config.z_dim} channels, "
                f"{config.scale_factor_temporal}x{config.scale_factor_spatial}x{config.scale_factor_spatial}"
            )
        _check_stride(config)
        self.vae = vae
        self.channels: int = config.z_dim
        self.stride = (4, 8, 8)
        weight = vae.quant_conv.weight
        self.dtype: torch.dtype = weight.dtype
        self.device: torch.device = weight.device
        statistics = (_statistic(config, name) for name in ("latents_mean", "latents_std"))
        self._mean, self._std = (values.view(1, -1, 1, 1, 1).to(self.device) for values in statistics)
        self._encoder_memories = _causal_convolutions(vae.encoder)
        self._decoder_memories = _causal_convolutions(vae.decoder)
        self._lock = threading.Lock()
        self._zeros: ZeroVideo | None = None

    def normalise(self, latents: Tensor) -> Tensor:
        """VAE latents to zero mean and unit variance, float32; what Wan and VACE are trained on."""
        return (latents.float() - self._mean) / self._std

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`, float32."""
        return latents.float() * self._std + self._mean

    def zero_video(self, shape: tuple[int, int, int]) -> ZeroVideo:
        """The all-zero video of [B, H, W]; streams opened one after another at one size share it."""
        with self._lock:
            if self._zeros is None or self._zeros.shape != shape:
                self._zeros = ZeroVideo(self, shape)
            return self._zeros

    def encoder(self, shape: tuple[int, int, int], *, restarts: bool = False) -> EncoderStream:
        """A video stream of [B, H, W] going in."""
        return EncoderStream(self, self.zero_video(shape), restarts=restarts)

    def decoder(self) -> DecoderStream:
        """A stream of latents coming out."""
        return DecoderStream(self)

    def encode_group(self, pixels: Tensor, state: State) -> Tensor:
        """One latent frame [B, 2C, 1, h, w] before the posterior, of 1 frame (first) or 4 frames (later)."""
        encoded: Tensor = self.vae.encoder(pixels, feat_cache=state, feat_idx=[0])
        return encoded

    def posterior_mean(self, encoded: Tensor) -> Tensor:
        """[B, 2C, F, h, w] to the mean [B, C, F, h, w]; VACE takes the mean, never a sample."""
        return self.vae.quant_conv(encoded).chunk(2, dim=1)[0]

    def new_encoder_state(self) -> State:
        return [None] * self._encoder_memories

    def new_decoder_state(self) -> State:
        return [None] * self._decoder_memories


class EncoderStream:
    """One video stream going into the VAE, chunk by chunk.

    Args:
        codec: the VAE.
        zeros: the all-zero video of this stream's size.
        restarts: whether every call begins a video of its own.
    """

    def __init__(self, codec: VaeCodec, zeros: ZeroVideo, *, restarts: bool = False) -> None:
        self._codec = codec
        self._zeros = zeros
        self._restarts = restarts
        self._state: State | None = None  # None while everything so far was zero
        self._latents = 0

    def encode(self, pixels: Tensor) -> Tensor:
        """Continue with real frames.

        Args:
            pixels: [B, 3, T, H, W] in [-1, 1]; T is ``4F-3`` at the start of the stream, ``4F`` later.

        Returns:
            VAE latents, not normalised, [B, C, F, h, w].

        Raises:
            InputError: T is not such a number.
        """
        self._begin()
        frames = pixels.shape[2]
        lead = 1 if self._latents == 0 else 0
        if frames < 1 or (frames - lead) % 4:
            rule = "1 + 4n" if lead else "4n"
            raise InputError(f"a causal VAE takes {rule} frames here, not {frames}")
        if self._state is None:
            self._state = self._zeros.state_after(self._latents)
        pixels = pixels.to(self._codec.device, self._codec.dtype)
        groups = list(pixels[:, :, lead:].split(4, dim=2)) if frames > lead else []
        if lead:
            groups.insert(0, pixels[:, :, :1])
        encoded = [self._codec.encode_group(group, self._state) for group in groups]
        self._latents += len(groups)
        return self._codec.posterior_mean(torch.cat(encoded, dim=2))

    def encode_zeros(self, latents: int) -> Tensor:
        """Continue with zero (mid-gray) frames: [B, C, latents, h, w]. Costs nothing while all so far was zero."""
        self._begin()
        if self._state is None:
            start = self._latents
            self._latents += latents
            return self._codec.posterior_mean(self._zeros.encoded(start, latents))
        frames = pixels_of(self._latents + latents) - pixels_of(self._latents)
        return self.encode(self._zeros.pixels(frames))

    def skip(self, latents: int) -> None:
        """Forget what was given; go on as if all of it, and `latents` more latent frames, had been zero."""
        self._state = None
        self._latents += latents

    def _begin(self) -> None:
        """Forget the video so far, where every call has its own."""
        if self._restarts:
            self._state, self._latents = None, 0


class ZeroVideo:
    """The encode of an all-zero video, group by group until it repeats.

    A causal VAE sees finitely far back, so from some group on its memory no longer changes; from there every group and
    state is the same, exactly. Up to there the encoded groups are kept.

    Args:
        codec: the VAE.
        shape: [B, H, W].
    """

    def __init__(self, codec: VaeCodec, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._codec = codec
        self._lock = threading.Lock()
        self._known: list[Tensor] = []
        self._state = codec.new_encoder_state()
        self._settled = False

    def pixels(self, frames: int) -> Tensor:
        batch, height, width = self.shape
        return torch.zeros((batch, 3, frames, height, width), dtype=self._codec.dtype, device=self._codec.device)

    def encoded(self, start: int, count: int) -> Tensor:
        """What `VaeCodec.encode_group` makes of latent frames ``start .. start+count-1``: [B, 2C, count, h, w]."""
        with self._lock:
            while not self._settled and len(self._known) < start + count:
                self._advance()
        return torch.cat([self._known[min(i, len(self._known) - 1)] for i in range(start, start + count)], dim=2)

    def state_after(self, latents: int) -> State:
        """The encoder's memory after that many latent frames of zeros."""
        with self._lock:
            while not self._settled and len(self._known) < latents:
                self._advance()
            if len(self._known) <= latents:
                return list(self._state)
        state = self._codec.new_encoder_state()
        for i in range(latents):
            self._codec.encode_group(self.pixels(4 if i else 1), state)
        return state

    def _advance(self) -> None:
        before = list(self._state)
        encoded = self._codec.encode_group(self.pixels(4 if self._known else 1), self._state)
        if not torch.isfinite(encoded).all():
            raise CheckpointError("the VAE encodes black frames to values that are not finite: its weights are damaged")
        if self._known and all(_same(a, b) for a, b in zip(before, self._state, strict=True)):
            self._settled = True
        self._known.append(encoded)


class DecoderStream:
    """One stream of latents coming out of the VAE as frames."""

    def __init__(self, codec: VaeCodec) -> None:
        self._codec = codec
        self._state = codec.new_decoder_state()
        self._started = False

    def decode(self, latents: Tensor) -> Tensor:
        """VAE latents [B, C, F, h, w], not normalised, to float pixels [B, 3, T, H, W] in [-1, 1]."""
        vae = self._codec.vae
        latents = vae.post_quant_conv(latents.to(self._codec.device, self._codec.dtype))
        frames = []
        for latent in latents.split(1, dim=2):
            first = {} if self._started else {"first_chunk": True}
            frames.append(vae.decoder(latent, feat_cache=self._state, feat_idx=[0], **first))
            self._started = True
        return torch.cat(frames, dim=2).clamp(-1.0, 1.0)


def _check_stride(config: Any) -> None:
    """Refuse layers of another stride than the scale factors say."""
    levels = len(config.dim_mult) - 1
    space, time = 2**levels, 2 ** sum(map(bool, config.temperal_downsample[:levels]))
    if (space, time) != (config.scale_factor_spatial, config.scale_factor_temporal):
        raise CheckpointError(
            f"a VAE with dim_mult {list(config.dim_mult)} and temperal_downsample {list(config.temperal_downsample)} "
            f"has stride {time}x{space}x{space}, its config says "
            f"{config.scale_factor_temporal}x{config.scale_factor_spatial}x{config.scale_factor_spatial}"
        )


def _statistic(config: Any, name: str) -> Tensor:
    """`latents_mean` or `latents_std`, one finite number for each channel; deviations over 0."""
    try:
        values = torch.tensor(getattr(config, name), dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{name} of the VAE must be a list of numbers, not {getattr(config, name)!r}") from error
    if values.shape != (config.z_dim,):
        raise CheckpointError(f"{name} of the VAE is {list(values.shape)}, expected [{config.z_dim}]")
    if not values.isfinite().all():
        raise CheckpointError(f"{name} of the VAE must be finite, not {values.tolist()}")
    if name == "latents_std" and not (values > 0).all():
        raise CheckpointError(f"{name} of the VAE must be over 0, not {float(values.min()):g}")
    return values


def _causal_convolutions(module: nn.Module) -> int:
    return sum(isinstance(child, WanCausalConv3d) for child in module.modules())


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and not isinstance(a, Tensor) and a == b
