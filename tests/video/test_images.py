"""Still images, on files made here: how they are shown, and every way in which they cannot be read."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from vace_adapt.errors import InputError
from vace_adapt.images import is_image, load_image
from vace_adapt.video.read import image_size, read_image

NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
RAMP = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_orientation(tmp_path, orientation, quarters):
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(NOISE, quarters)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png", "mask")), upright)
    assert image_size(tmp_path / "a.png", "mask") == upright.shape[:2]
    assert np.array_equal(read_image(tmp_path / "a.png", *upright.shape[:2], "mask"), upright)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    Image.fromarray(RAMP).save(tmp_path / name)
    for image in (tmp_path / name, Image.fromarray(RAMP), Image.fromarray(RAMP.astype(np.int32))):
        shown = np.asarray(load_image(image, "mask"))
        assert np.array_equal(shown[..., 0], np.round(RAMP / 257))


def test_sixteen_bits_of_the_other_byte_order(tmp_path):
    header = {256: (3, 8), 257: (3, 6), 258: (3, 16), 259: (3, 1), 262: (3, 1), 273: (4, 98), 278: (3, 6), 279: (4, 96)}
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, (kind, value) in header.items()
    )
    directory = struct.pack(">H", len(header)) + entries + bytes(4)
    start = 8 + len(directory)
    directory = directory.replace(struct.pack(">I", 98), struct.pack(">I", start))
    (tmp_path / "a.tif").write_bytes(b"MM\0*" + struct.pack(">I", 8) + directory + RAMP.astype(">u2").tobytes())
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "I;16B"
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.tif", "mask"))[..., 0], np.round(RAMP / 257))


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (Image.new("RGBA", (4, 4)), "RGBA"),
        (Image.new("LA", (4, 4)), "RGBA"),
        *((Image.new(mode, (4, 4)), "RGB") for mode in ("1", "L", "P", "CMYK", "YCbCr", "RGB")),
    ],
)
def test_modes(image, mode):
    assert load_image(image, "mask").mode == mode


def png(shorter: int | None = None) -> bytes:
    """An image whose pixel data may say that it is shorter than it is."""
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG")
    whole = buffer.getvalue()
    at = whole.index(b"IDAT")
    return whole if shorter is None else whole[: at - 4] + struct.pack(">I", shorter) + whole[at:]


def tiff(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "reference 0: no file '{path}'"),
        (b"", "reference 0: '{path}' is not an image"),
        (b"text", "reference 0: '{path}' is not an image"),
        (png()[:60], "reference 0: '{path}' cannot be read: "),
        (png()[:1500], "reference 0: '{path}' cannot be read: image file is truncated"),
        (png()[:70] + b"????" + png()[74:], "reference 0: '{path}' cannot be read: "),
        (png(shorter=1000), "reference 0: '{path}' cannot be read: broken PNG file"),
        (tiff(NOISE[..., 0].astype(np.float32)), "'{path}' cannot be read: its pixels are float (mode F), expected 8 or 16"),
        (tiff(NOISE[..., 0] * np.int32(300)), "'{path}' cannot be read: its pixels are 0..76500 (mode I), expected 0..65535"),
        (tiff(NOISE[..., 0] * np.int32(-1)), "'{path}' cannot be read: its pixels are -255..0 (mode I), expected 0..65535"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used(tmp_path, content, expected):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(InputError) as caught:
            load_image(path, "reference 0")
    assert expected.replace("{path}", str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_bomb(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"mask: '.*' cannot be read: Is a directory"):
        load_image(tmp_path, "mask")
    Image.new("1", (300, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert is_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"mask: '.*a.png' is too large: Image size \(90000 pixels\) exceeds limit"):
        load_image(tmp_path / "a.png", "mask")


def test_an_open_image_that_cannot_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(png()[:1500])
    with (
        Image.open(tmp_path / "a.png") as image,
        pytest.raises(InputError, match=r"'.*a.png' cannot be read: image file"),
    ):
        load_image(image, "reference 0")
    closed = Image.new("RGB", (4, 4))
    closed.close()
    with pytest.raises(InputError, match="reference 0: the PIL image cannot be read: Operation on closed image"):
        load_image(closed, "reference 0")


def test_what_is_a_still_image(tmp_path):
    stills = [Image.new("L", (4, 4), value) for value in (0, 99)]
    stills[0].save(tmp_path / "still.gif")
    stills[0].save(tmp_path / "moving.gif", save_all=True, append_images=stills[1:])
    (tmp_path / "cut.png").write_bytes(png()[:1500])
    (tmp_path / "text.png").write_text("x")
    found = {path.name: is_image(path) for path in Path(tmp_path).iterdir()}
    assert found == {"still.gif": True, "moving.gif": False, "cut.png": True, "text.png": False}
    assert not is_image(tmp_path)
