"""What replays of causal pipelines share: the model a golden file describes, and chunks that come from it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vace_adapt.cache.ring import RingCache
from vace_adapt.contract import Backbone, BlockInputs, Hints, HintSource, Level, SourceVideo
from vace_adapt.errors import GoldenError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.parity.golden import Golden, max_error
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.wan_keys import to_diffusers


class GoldenChunk:
    """A chunk whose noise, prompt and hints come from the file (`contract.Chunk`)."""

    def __init__(self, golden: Golden, index: int, start: int, prompt: str, prompt_changed: bool, steps: int) -> None:
        self.index = index
        self.start = start
        self.text = golden.tensor(f"prompt.{prompt}")
        self.prompt_changed = prompt_changed
        self.frames = golden.tensor(f"noise.{index}").shape[1]
        self.reanchor: Mapping[int, Tensor] = {}
        self.video: SourceVideo | None = None
        self._golden = golden
        self._steps = steps

    def noise(self, draw: int) -> Tensor:
        name = f"noise.{self.index}" if draw == 0 else f"renoise.{self.index}.{draw - 1}"
        return self._golden.tensor(name).transpose(1, 2)

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        return self._hints(str(step))

    def unconditional(self, step: int, sigma: Level) -> HintSource | None:
        return None

    def keep(self, latents: Tensor) -> Tensor:
        return latents

    def clean_pass(self, sigma: float) -> HintSource | None:
        return self._hints(str(self._steps))

    def recaching(self) -> HintSource | None:
        return self._hints("recache")

    def _hints(self, step: str) -> HintSource | None:
        stem = f"hint.{self.index}.{step}."
        hints = {int(name.removeprefix(stem)): t for name, t in self._golden.tensors.items() if name.startswith(stem)}

        def given(inputs: BlockInputs) -> Hints:
            return hints

        return HintSource(given) if hints else None


def model_of(golden: Golden) -> CausalWan:
    """The model of a file, with its weights.

    Raises:
        GoldenError: it is no Wan2.1 model, or its weights do not fit its config.
    """
    if not golden.config.get("qk_norm", True):
        raise GoldenError(f"{golden.path}: a model without qk_norm is not a Wan2.1 model")
    backbone = Backbone(
        dim=golden.value("dim"),
        ffn_dim=golden.value("ffn_dim"),
        heads=golden.value("num_heads"),
        layers=golden.value("num_layers"),
        text_dim=golden.value("text_dim"),
        text_len=golden.value("text_len"),
        freq_dim=golden.value("freq_dim"),
        latent_channels=golden.value("in_dim"),
        patch=tuple(golden.value("patch_size")),
        cross_attn_norm=golden.value("cross_attn_norm"),
        eps=golden.value("eps"),
    )
    model = CausalWan.of(backbone).eval()
    with refusing(GoldenError, f"{golden.path}: its weights do not fit its config"):
        model.load_state_dict({to_diffusers(name): tensor for name, tensor in golden.weights().items()})
    return model


def ring_errors(golden: Golden, ring: RingCache) -> list[tuple[str, float]]:
    """Errors of a cache, slots put in upstream's order: by time, unused ones last."""
    positions = ring.positions()
    order = sorted(range(len(positions)), key=lambda slot: (positions[slot] < 0, positions[slot]))
    rows = []
    if "cache_positions" in golden.config:
        held = [positions[slot] for slot in order if positions[slot] >= 0]
        rows.append(("cache positions", 0.0 if held == golden.config["cache_positions"] else float("inf")))
    for layer in range(golden.value("num_layers")):
        for name, tensor in (("k", ring.keys[layer]), ("v", ring.values[layer])):
            if f"cache.{layer}.{name}" in golden.tensors:
                by_time = tensor.unflatten(1, (len(order), -1))[:, order].flatten(1, 2)
                rows.append((f"cache {layer}.{name}", max_error(by_time, golden.tensor(f"cache.{layer}.{name}"))))
    return rows
