"""One stream of Self-Forcing: what it remembers, and its loop."""

from functools import partial

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.models.schedule import FewStepSchedule


class Memory:
    """Keys and values of the newest latent frames, and of the prompt (`CacheOps`)."""

    def __init__(self, parts, shapes, batch):
        settings, sizes = parts.settings, parts.backbone
        where = {"dtype": parts.dtype, "device": parts.device}
        spec = RingSpec(settings.window, sink=0, evicts=settings.rolling, protect_sink=False, pad_sink=False)
        rope = RotaryGrid(sizes.head_dim, shapes.grid, parts.device)
        heads = {"layers": sizes.layers, "heads": sizes.heads, "head_dim": sizes.head_dim}
        self.ring = RingCache(spec, rope, batch=batch, compiled=parts.compiled, **heads, **where)
        self.text = TextMemory(parts.model.blocks).reserve(batch, sizes.text_len, **where)
        self.layout = self.ring.layout

    def tensors(self):
        return {**self.ring.tensors(), **self.text.tensors()}

    def positions(self, row=0):
        return self.ring.positions(row)

    def snapshot(self):
        return self.ring.snapshot(), self.text.snapshot()

    def restore(self, snapshot):
        self.ring.restore(snapshot[0])
        self.text.restore(snapshot[1])

    def reset(self):
        self.ring.reset()
        self.text.reset()


def run_stream(parts, stream):
    """A few denoise steps for each chunk, then one pass over the finished latents, which stays in the memory."""
    settings, memory, model = parts.settings, stream.cache, parts.model
    schedule = FewStepSchedule(
        settings.denoising_steps,
        shift=settings.timestep_shift,
        warp=settings.warp_denoising_steps,
        device=parts.device,
    )
    steps = list(enumerate(zip(schedule.timesteps, schedule.sigmas, strict=True)))

    def flow(latents, timestep, start, hints):
        layers = partial(memory.ring.layer, step=memory.ring.chunk_pass(start, latents.shape[2]))
        return model(latents, schedule.tensor(timestep, latents.shape[0]), memory.text, layers, hints)

    for chunk in stream.chunks():
        if chunk.index == 0:
            memory.text.write(model.embed_text(chunk.text))
        clean = chunk.noise(0)
        for step, (timestep, sigma) in steps:
            noisy = schedule.renoise(clean, chunk.noise(step), sigma)
            predicted = flow(noisy, timestep, chunk.start, chunk.denoising(step, sigma))
            clean = chunk.keep(schedule.clean(noisy, predicted, sigma))
        flow(clean, 0.0, chunk.start, chunk.clean_pass(0.0))
        yield clean
