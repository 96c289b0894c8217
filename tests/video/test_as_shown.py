"""Videos as they are shown: the shape of a pixel, the times of the frames, and the mask that goes with them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vace_adapt.config.read import settings_from
from vace_adapt.errors import VideoError
from vace_adapt.experiments.source import Source, open_source
from vace_adapt.loading import load_plugin
from vace_adapt.video.read import probe, read_frames
from vace_adapt.video.write import VideoWriter


def shades(count: int) -> np.ndarray:
    """Frame t is uniformly 5*t bright, so that it can be recognised."""
    return np.stack([np.full((32, 48, 3), 5 * t, np.uint8) for t in range(count)])


def write(path: Path, frames: np.ndarray, rate: Fraction = Fraction(25)) -> Path:
    writer = VideoWriter(path, *frames.shape[1:3], rate, 1)
    writer.write(frames)
    writer.close()
    return path


def encoded(path: Path, frames: np.ndarray, times=None, pixel=None, turn: int = 0) -> Path:
    """A file with its own timestamps (ms), shape of a pixel, or rotation."""
    with av.open(str(path.with_name("upright" + path.suffix)), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = 100 * number if times is None else times[number], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with av.open(str(path.with_name("upright" + path.suffix))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        if turn:
            stream.set_display_rotation(turn)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                if times is not None:
                    packet.duration = int(Fraction(times[-1] - times[-2], 1000) / packet.time_base)
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("pixel", "turn", "size"),
    [
        (Fraction(16, 9), 0, (48, 171)),
        (Fraction(8, 9), 0, (54, 96)),
        (Fraction(16, 9), 90, (171, 48)),
        (Fraction(8, 9), -90, (96, 54)),
        (Fraction(1), 0, (48, 96)),
    ],
)
def test_pixels_that_are_not_square(tmp_path, pixel, turn, size):
    """The middle half stays the middle half; nothing is cut away to the sides."""
    frame = np.zeros((48, 96, 3), np.uint8)
    frame[:, 24:72] = 255
    info = probe(encoded(tmp_path / "a.mp4", frame[None].repeat(2, 0), pixel=pixel, turn=turn))
    assert (info.height, info.width) == size
    shown = next(read_frames(info, *size, gray=True))
    across = shown.mean(axis=0 if turn == 0 else 1)
    assert shown.shape == size
    assert np.abs((across > 128).mean() - 0.5) < 0.02
    assert across[: len(across) // 5].max() < 10 > across[-(len(across) // 5) :].max()


UNEVEN = [0, 10, 20, 500, 510, 1000, 2000, 2010, 3200, 3600]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize(
    ("times", "rate"),
    [(None, 10), ([33 * t + t // 3 for t in range(10)], 30), (UNEVEN, 2.5), ([100 * t + 1 for t in range(10)], 10)],
)  # fmt: skip
def test_the_rate_is_that_of_the_timestamps(tmp_path, name, times, rate):
    count = 10 if times is None else len(times)
    info = probe(encoded(tmp_path / name, shades(count), times=times))
    assert info.frames == count
    assert float(info.rate) == pytest.approx(rate, rel=0.021)
    assert len(list(read_frames(info, 32, 48, float(info.rate)))) == count


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(1000), Fraction(1, 10)])
def test_exact_rates_are_kept(tmp_path, rate):
    assert probe(write(tmp_path / "a.mp4", shades(7), rate)).rate == rate


@pytest.mark.parametrize("name", ["a:b.mp4", "concat:x.mp4", "pipe:0", "im%03d.mp4"])
def test_a_name_is_no_protocol(tmp_path, monkeypatch, name):
    write(tmp_path / "x.mp4", shades(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    info = probe(Path(name))
    assert (info.path, len(list(read_frames(info, 32, 48)))) == (Path(name), 3)
    with pytest.raises(VideoError, match="no video 'c:d.mp4'"):
        probe(Path("c:d.mp4"))


@pytest.mark.parametrize(("rate", "fps"), [(25, None), (10, 25), (50, 25), (10, 12.5), (50, 50), (10, 7)])
def test_a_mask_video_goes_with_the_input_whatever_its_rate(tmp_path, rate, fps):
    """Frame for frame, also where the input is resampled."""
    switched = shades(20) * 0
    switched[10:] = 255
    video, mask = write(tmp_path / "a.mp4", switched), write(tmp_path / "mask.mp4", switched, Fraction(rate))
    options = [f"input={video}", f"mask={mask}", "height=32", "width=48", *([] if fps is None else [f"fps={fps}"])]
    source = open_source(settings_from(options), load_plugin("longlive").info)
    made = [(moment.videos["input"].mean() > 128, moment.mask.mean() > 128) for moment in source.moments()]
    assert len(made) == source.frames == -(-20 * (fps or 25) // 25)
    assert all(frame == shown for frame, shown in made)
    assert {frame for frame, _ in made} == {True, False}


def test_noise_of_a_black_mask_video_is_no_mask(tmp_path):
    """Frames of 0 and 1, which as uint8 would be taken for a mask in the wrong scale."""
    info = probe(write(tmp_path / "a.mp4", shades(2)))
    source = Source(
        32, 48, (32, 48), 2, info.rate, None, {"input": info}, probe(write(tmp_path / "mask.mp4", shades(2) // 5))
    )
    assert max(mask.max() for mask in read_frames(source.mask, 32, 48, gray=True)) == 1
    assert not any(moment.mask.any() for moment in source.moments())
