"""What a student is trained for is what the pipeline's memory shows it.

One pass over a clip, under the window's mask, against the streaming model: in LongLive's ring cache a chunk is denoised
with the clean passes of all chunks before it; in a ring of StreamDiffusionV2 with those chunks at its own noise level.
"""

from __future__ import annotations

from dataclasses import replace

import causal
import pytest
import torch
from causal import Window
from pipelines import students

from vace_adapt.contract import ChunkShapes
from vace_adapt.embedded.tiny import TINY, tiny_wan_parts
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt.time_map import TimeMap
from vace_adapt_longlive.cache import LongLiveCache
from vace_adapt_longlive.native import NativeDenoiser
from vace_adapt_longlive.settings import LongLiveSettings
from vace_adapt_streamdiffusion import native as stream_native
from vace_adapt_streamdiffusion.cache import StreamDiffusionCache
from vace_adapt_streamdiffusion.ring import Use
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

SETTINGS = LongLiveSettings(name="longlive")
CHUNK = SETTINGS.chunk_latents
WINDOW = Window(chunk=CHUNK, sink=SETTINGS.sink, slots=SETTINGS.window)
SCHEDULE = FewStepSchedule(
    SETTINGS.denoising_steps, shift=SETTINGS.timestep_shift, warp=True, device=torch.device("cpu")
)
PARTS = tiny_wan_parts(SETTINGS, seed=1, draws=len(SETTINGS.denoising_steps))
STREAM = students()["streamdiffusion"].window
TEXT = torch.randn((1, TINY.text_len, TINY.text_dim), generator=torch.Generator().manual_seed(9))


def clip(frames):
    """Clean and noisy latents, and the step of each chunk."""
    generator = torch.Generator().manual_seed(frames)
    clean, noisy = (torch.randn((1, 16, frames, 4, 6), generator=generator) for _ in range(2))
    return clean, noisy, torch.randint(len(SCHEDULE), (frames // CHUNK,), generator=generator).tolist()


class Streaming:
    """The streaming model of a fresh stream, at the tiny size."""

    def __init__(self, text=TEXT):
        shapes = ChunkShapes.of(TINY, TimeMap(CHUNK, CHUNK), 32, 48)
        self.denoiser = NativeDenoiser(
            PARTS.model, SCHEDULE, LongLiveCache.open(PARTS, shapes, batch=1, references=None)
        )
        self.denoiser.set_prompt(text)

    def flow(self, latents, timestep, chunk):
        return self.denoiser(latents, timestep, chunk * CHUNK, None)

    def finish(self, clean, chunk):
        self.denoiser(clean, SETTINGS.context_noise, chunk * CHUNK, None)


def chunk_of(latents, chunk):
    return latents[:, :, chunk * CHUNK : (chunk + 1) * CHUNK]


def streamed(frames):
    """The flow of each chunk after clean passes of the chunks before it, [1, C, F, h, w]."""
    clean, noisy, steps = clip(frames)
    stream, made = Streaming(), []
    for chunk, step in enumerate(steps):
        stream.flow(chunk_of(noisy, chunk) + 1, SCHEDULE.timesteps[0], chunk)  # an earlier step, overwritten
        made.append(stream.flow(chunk_of(noisy, chunk), SCHEDULE.timesteps[step], chunk))
        stream.finish(chunk_of(clean, chunk), chunk)
    return torch.cat(made, dim=2)


def teacher_forced(frames, window=WINDOW, mask=None, positions=None):
    """The same, in one pass as in training."""
    clean, noisy, steps = clip(frames)
    sigma = torch.tensor([SCHEDULE.sigmas[step] for step in steps])[None].repeat_interleave(CHUNK, dim=1)
    mask = window.mask(frames) if mask is None else mask
    past = causal.Past(clean, TEXT, positions or range(frames), mask)
    return causal.streamed(PARTS.model, past, noisy, sigma)


def errors(made, expected):
    """The largest difference in each chunk."""
    return [float((a - b).abs().max()) for a, b in zip(made.split(CHUNK, 2), expected.split(CHUNK, 2), strict=True)]


@pytest.fixture(scope="module")
def stream():
    return streamed(causal.FRAMES)


def test_training_is_streaming(stream):
    """21 latent frames, 7 chunks: the ring slides from chunk 4 on."""
    assert stream.std() > 0.1
    assert max(errors(teacher_forced(causal.FRAMES), stream)) < 1e-5


def test_training_is_streaming_in_longer_streams():
    assert max(errors(teacher_forced(36), streamed(36))) < 1e-5


@pytest.mark.parametrize(
    ("window", "first"),
    [
        (Window(3, 0, 12), 4),  # no sink
        (Window(3, 3, 9), 3),  # a shorter window
        (Window(3, 3, 15), 4),  # a longer one
        (Window(3, 6, 12), 4),  # a longer sink
    ],
)
def test_another_window_is_noticed(stream, window, first):
    found = errors(teacher_forced(causal.FRAMES, window), stream)
    assert max(found[:first]) < 1e-5
    assert min(found[first:]) > 1e-4


def ring_streamed(frames, sigma):
    """The flow of StreamDiffusionV2's chunks, each after the ones before it at the same noise level."""
    settings = StreamDiffusionSettings(
        name="streamdiffusion", sink_threshold=-1, stream_batch=False, denoising_steps=[700]
    )
    parts = replace(PARTS, settings=settings)
    first = settings.first_latents
    shapes = ChunkShapes.of(TINY, TimeMap(first, settings.chunk_latents), 32, 48)
    denoiser = stream_native.NativeDenoiser(
        PARTS.model, StreamDiffusionCache.open(parts, shapes, batch=1, references=None)
    )
    denoiser.set_prompt(0, 0, TEXT)
    _, noisy, _ = clip(frames)
    made, start = [], 0
    for count in (first, *[1] * (frames - first)):
        use = Use(start, count, position=start, moved=0, first=True)
        latents = noisy[:, :, start : start + count]
        made.append(denoiser(latents, torch.full((1,), 1000 * sigma), 0, [use], None, [None]))
        start += count
    return torch.cat(made, dim=2)


def one_pass(frames, sigma, window):
    _, noisy, _ = clip(frames)
    past = causal.Past(None, TEXT, range(frames), window.mask(frames))
    return causal.streamed(PARTS.model, past, noisy, torch.full((1, frames), sigma))


def test_training_is_streaming_where_chunks_remember_noisy_ones():
    expected = ring_streamed(12, 0.6)
    assert float((one_pass(12, 0.6, STREAM) - expected).abs().max()) < 1e-5
    for other in (replace(STREAM, sink=2), replace(STREAM, slots=7), replace(STREAM, more=0)):
        assert float((one_pass(12, 0.6, other) - expected).abs().max()) > 1e-4


def test_a_chunk_that_sees_its_own_clean_copy_is_noticed(stream):
    frames = causal.FRAMES
    mask = WINDOW.mask(frames)
    mask[frames:, :frames] |= mask[frames:, frames:]
    assert min(errors(teacher_forced(frames, mask=mask), stream)) > 1e-3


def test_a_chunk_that_sees_noisy_copies_of_others_is_noticed(stream):
    frames = causal.FRAMES
    mask = WINDOW.mask(frames)
    mask[frames:, frames:] |= mask[frames:, :frames]
    assert min(errors(teacher_forced(frames, mask=mask), stream)[1:]) > 1e-3


def test_positions_that_differ_are_noticed(stream):
    frames = causal.FRAMES
    shifted = [*range(frames - 3), *range(frames - 2, frames + 1)]
    assert errors(teacher_forced(frames, positions=shifted), stream)[-1] > 1e-4


# --- the mask -----------------------------------------------------------------------------------------------------


def described(window, frames):
    """The mask of clean and noisy copies in words, one pair of rows after another."""

    def shown(chunk):
        """Frames in the memory while a chunk is denoised, its own among them."""
        end = (chunk + 1) * window.chunk
        slots = {*range(min(window.sink, end)), *range(max(0, end - (window.slots - window.sink)), end)}
        left = [frame for frame in range(0, end, window.chunk) if frame not in slots]
        return {*slots, *left[len(left) - window.bank :]}

    looks = torch.zeros((2 * frames, 2 * frames), dtype=torch.bool)
    for row in range(frames):
        chunk = row // window.chunk
        for frame in shown(chunk):
            own = frame // window.chunk == chunk
            looks[row, frame] = True  # a clean copy sees what is clean
            looks[frames + row, frames + frame if own else frame] = True  # a noisy one its own chunk as it is now
    return looks


@pytest.mark.parametrize(
    ("window", "frames"),
    [
        (WINDOW, 21),
        (WINDOW, 36),
        (Window(3, 0, 6), 15),
        (Window(1, 2, 5), 9),
        (Window(4, 4, 12), 20),
        (Window(3, 3, 12, bank=2), 30),
    ],
)
def test_the_mask_is_as_described(window, frames):
    assert torch.equal(window.mask(frames), described(window, frames))
    assert window.mask(frames).any(dim=1).all()
    assert not torch.equal(window.mask(frames), described(replace(window, slots=window.slots + 1), frames))


@pytest.mark.parametrize("window", [WINDOW, STREAM])
def test_alone_every_chunk_is_the_first_of_a_stream(window):
    size, frames = window.chunk + window.more, 12
    mask, copies = window.mask(frames, alone=True), 2 if window.clean else 1
    first = window.mask(size)
    assert mask.sum() == first.sum() * (frames // size)
    for start in range(0, frames, size):
        rows = torch.cat([torch.arange(start, start + size) + copy * frames for copy in range(copies)])
        assert torch.equal(mask[rows][:, rows], first)
    drawn = [
        causal.draw_past(window, torch.zeros(1, 16, 21, 2, 2), TEXT, torch.Generator().manual_seed(seed), firsts=0.5)
        for seed in range(20)
    ]
    alone = [past for past in drawn if torch.equal(past.mask, window.mask(21, alone=True))]
    assert 4 < len(alone) < 16
    assert all(list(past.positions) == [i % size for i in range(21)] for past in alone)


# --- what is drawn ------------------------------------------------------------------------------------------------


def test_positions_are_those_of_a_stream():
    drawn = [causal.draw_positions(WINDOW, torch.Generator().manual_seed(seed)) for seed in range(40)]
    near = list(range(causal.FRAMES))
    assert 10 < sum(one == near for one in drawn) < 30
    for own in drawn:
        assert own[: WINDOW.sink] == near[: WINDOW.sink]
        gaps = {b - a for a, b in zip(near[WINDOW.sink :], own[WINDOW.sink :], strict=True)}
        assert len(gaps) == 1
        assert 0 <= gaps.pop() < causal.LONGEST_GAP


@pytest.mark.parametrize(("window", "count"), [(WINDOW, 7), (Window(1, 3, 6, more=1), 20), (STREAM, 1)])
def test_a_chunk_is_at_one_level(window, count):
    """And a clip is, where a chunk remembers the others at its own level."""
    levels = causal.draw_levels(window, torch.Generator().manual_seed(0))
    assert levels.shape == (causal.CLIPS, causal.FRAMES)
    for clip in levels.tolist():
        by_chunk = dict(zip(window.numbers(causal.FRAMES).tolist(), clip, strict=True))
        assert clip == [by_chunk[number] for number in window.numbers(causal.FRAMES).tolist()]
        assert len(set(clip)) == count
    assert len(set(levels[:, 0].tolist())) == causal.CLIPS


def test_the_history_is_hardly_noisy():
    clean = torch.zeros((8, 16, 21, 4, 4))
    found = causal.draw_history(clean, torch.Generator().manual_seed(0)).std(dim=(1, 3, 4))
    assert found.shape == (8, 21)
    assert 0 <= found.min() < 0.03
    assert 0.8 * causal.HISTORY_NOISE < found.max() < 1.2 * causal.HISTORY_NOISE
