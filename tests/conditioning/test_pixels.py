from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base

from vace_adapt.conditioning.pixels import (
    check_frames,
    check_mask,
    frames_to_pixels,
    mask_to_pixels,
    tensor_to_frames,
)
from vace_adapt.conditioning.references import references_to_tensor
from vace_adapt.errors import InputError

H, W = 16, 32
ORIENTATION = Base.Orientation


def frames(**options):
    given = {"frames": np.zeros((4, H, W, 3), np.uint8), "name": "control", "batch": 1, "height": H, "width": W}
    return frames_to_pixels(check_frames(**{**given, **options}))


def test_uint8_float_and_pil_mean_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (4, H, W, 3), dtype=np.uint8)
    expected = frames(frames=pixels)
    assert expected.shape == (1, 3, 4, H, W)
    assert torch.equal(frames(frames=torch.from_numpy(pixels)), expected)
    assert torch.equal(frames(frames=[Image.fromarray(frame) for frame in pixels]), expected)
    assert torch.allclose(frames(frames=pixels.astype(np.float32) / 255), expected)
    assert torch.equal(tensor_to_frames(expected)[0], torch.from_numpy(pixels))


@pytest.mark.parametrize("dtype", [">f4", ">f8", np.longdouble])
def test_other_number_formats_mean_the_same(dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (4, H, W, 3), dtype=np.uint8)
    assert torch.allclose(frames(frames=(pixels / 255).astype(dtype)), frames(frames=pixels))
    assert torch.allclose(references([(pixels[0] / 255).astype(dtype)]), references([pixels[0]]))


def test_turned_and_cut_arrays():
    image = halves(H, W) + np.arange(3, dtype=np.uint8)
    assert torch.equal(references([image[..., ::-1]]), references([image]).flip(1))
    assert torch.equal(references([image[::-1]]), references([image]).flip(3))
    assert torch.equal(frames(frames=image[None, :, ::-1]), frames(frames=image[None]).flip(4))


def test_pictures_are_read_as_they_are_shown(tmp_path):
    """Orientation of a camera, and 16 bits."""
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    Image.fromarray(halves(H, W)).save(tmp_path / "a.png", exif=exif)
    gray = Image.fromarray(np.full((H, W), 128 * 257, np.uint16))
    assert torch.equal(references([tmp_path / "a.png"]), references([halves(H, W)[:, ::-1]]))
    with Image.open(tmp_path / "a.png") as image:
        assert torch.equal(frames(frames=[image]), frames(frames=halves(H, W)[None, :, ::-1]))
    assert torch.equal(references([gray]), references([np.full((H, W, 3), 128, np.uint8)]))
    assert torch.equal(read_mask([gray], 1, 1, H, W), read_mask(np.full((H, W), 128, np.uint8), 1, 1, H, W))


def test_range():
    assert frames(frames=np.full((1, H, W, 3), 255, np.uint8)).max() == 1
    assert frames().min() == -1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"frames": np.zeros((4, H, W, 1), np.uint8)}, r"control must be \[T, H, W, 3\] .*not \[4, 16, 32, 1\]"),
        ({"frames": np.zeros((H, W, 3), np.uint8)}, r"control must be \[T, H, W, 3\]"),
        ({"frames": np.zeros((0, H, W, 3), np.uint8)}, "control has no frames"),
        ({"height": 32}, r"control is 16x32 \(height x width\), the stream is 32x32"),
        ({"batch": 2}, "control has 1 batch rows, the stream has 2"),
        ({"frames": np.zeros((4, H, W, 3), np.int64)}, "control must be uint8 or float, not torch.int64"),
        ({"frames": np.full((4, H, W, 3), np.nan, np.float32)}, "control has values that are not finite"),
        ({"frames": np.full((4, H, W, 3), 2.0, np.float32)}, r"control as float must be within 0..1, not 2..2"),
        ({"frames": "a.mp4"}, "control must be an array, a tensor or a list of PIL images, not str"),
        ({"frames": [Image.new("RGB", (W, H)), Image.new("RGB", (H, W))]}, "control frames differ in size"),
        ({"frames": [Image.new("F", (W, H))]}, r"control frame 0: the PIL image cannot be read: its pixels are float"),
        ({"frames": np.full((4, H, W, 3), np.nextafter(np.float32(1), 2))}, "within 0..1, not 1.00000012..1.00000012"),
        ({"frames": np.zeros((4, H, W, 3), object)}, "control must be uint8 or float, not object"),
        ({"frames": np.zeros((4, H, W, 3), complex)}, "control must be uint8 or float, not complex128"),
        ({"frames": np.full((4, H, W, 3), "0")}, "control must be uint8 or float, not <U1"),
        (
            {"frames": torch.zeros(4, H, W, 3, device="meta")},
            "control must be a dense tensor with values, not one on the device meta",
        ),
        (
            {"frames": torch.zeros(4, H, W, 3).to_sparse()},
            "control must be a dense tensor with values, not torch.sparse_coo",
        ),
    ],
)
def test_frames_that_cannot_be_used(options, text):
    with pytest.raises(InputError, match=text):
        frames(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_inputs_on_another_device():
    given = torch.zeros(4, H, W, 3, device="cuda")
    assert check_frames(given, "control", 1, H, W).device.type == references([given[0]]).device.type == "cpu"


def read_mask(mask, *rows):
    return mask_to_pixels(check_mask(mask, *rows))


def test_masks_static_per_frame_and_batched():
    static = torch.rand(H, W)
    assert torch.equal(read_mask(static, 4, 2, H, W), static.expand(2, 1, 4, H, W))
    moving = torch.rand(4, H, W)
    assert torch.equal(read_mask(moving, 4, 1, H, W)[0, 0], moving)
    assert read_mask(torch.ones(2, 4, H, W, dtype=torch.bool), 4, 2, H, W).all()
    assert read_mask(np.full((4, H, W), 255, np.uint8), 4, 1, H, W).max() == 1


def test_what_was_given_is_copied():
    """The caller may write into the array again, in a loop over a camera's buffer, say."""
    for dtype in (torch.uint8, torch.float32):
        given, mask = torch.zeros(1, H, W, 3, dtype=dtype), torch.zeros(1, H, W, dtype=dtype)
        kept, kept_mask = check_frames(given, "control", 1, H, W), check_mask(mask, 1, 1, H, W)
        given += 1
        mask += 1
        assert not kept.any()
        assert not kept_mask.any()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (torch.zeros(3, H, W), "mask has 3 frames, the control 4"),
        (np.zeros((4, H, W, 1)), r"the mask is \[4, 16, 32, 1\], expected \[H, W\], \[T, H, W\] or \[B, T, H, W\]"),
        ([Image.new("L", (W, H))], "mask has 1 frames, the control 4: the mask is 1 PIL images"),
        (np.array(1.0), r"mask must be \[H, W\], \[T, H, W\] or \[B, T, H, W\], not a single number"),
        (np.ones((4, H, W), np.uint8), "mask as uint8 must be within 0..255, not 0..1: give 0 and 255, or bool"),
        ([Image.new("L", (W, H), 1)] * 4, "give 0 and 255, or bool"),
        (torch.zeros(4, H, W + 1), r"mask is 16x33 \(height x width\), the stream is 16x32"),
        (torch.zeros(1, 1, 4, H, W), r"mask must be \[H, W\], \[T, H, W\] or \[B, T, H, W\]"),
        (torch.full((4, H, W), float("nan")), "mask has values that are not finite"),
        (torch.full((4, H, W), -0.5), "mask as float must be within 0..1"),
    ],
)
def test_masks_that_cannot_be_used(mask, text):
    with pytest.raises(InputError, match=text):
        read_mask(mask, 4, 1, H, W)


def references(images, fit="crop", batch=1):
    return references_to_tensor(images, fit, batch, H, W)


def halves(height: int, width: int) -> np.ndarray:
    """Black on the left, white on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return image


def test_crop_fills_the_frame():
    found = references([halves(64, 64)])
    assert found.shape == (1, 3, 1, H, W)
    assert (found[..., :8] < -0.9).all()
    assert (found[..., -8:] > 0.9).all()


def test_letterbox_stands_on_white():
    found = references([np.zeros((64, 64, 3), np.uint8)], "letterbox")[0, :, 0]
    assert (found[:, :, :8] == 1).all()
    assert (found[:, :, -8:] == 1).all()
    assert (found[:, :, 8:24] == -1).all()


def test_a_reference_of_the_right_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    for fit in ("crop", "letterbox"):
        assert torch.equal(tensor_to_frames(references([image], fit))[0, 0], torch.from_numpy(image))


def test_transparent_parts_become_white(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (W, H), (0, 0, 0, 0)).save(path)
    assert (references([path]) == 1).all()


def test_references_by_row():
    found = references([[halves(H, W)], [np.zeros((H, W, 3), np.uint8)]], batch=2)
    assert found.shape == (2, 3, 1, H, W)
    assert not torch.equal(found[0], found[1])
    shared = references([halves(H, W)], batch=2)
    assert torch.equal(shared[0], shared[1])


@pytest.mark.parametrize(
    ("images", "batch", "text"),
    [
        (["missing.png"], 1, "reference 0: no file 'missing.png'"),
        (None, 1, "references must be a list of images, not NoneType"),
        ({"a": halves(4, 4)}, 1, "references must be a list of images, not dict"),
        ((image for image in [halves(4, 4)]), 1, "references must be a list of images, not generator"),
        ([], 1, "references are empty: give at least one image"),
        ([[halves(4, 4)], halves(4, 4)], 2, "references mix images and lists of images"),
        ([b"png"], 1, "reference 0 must be a path, a PIL image, an array or a tensor, not bytes"),
        ([halves(4, 4).astype(object)], 1, "reference 0 must be uint8 or float, not object"),
        ([torch.zeros(4, 4, 3, device="meta")], 1, "reference 0 must be a dense tensor with values"),
        ([np.zeros((4, 4), np.uint8)], 1, r"reference 0 must be \[H, W, 3\], not \[4, 4\]"),
        ([np.zeros((4, 4, 3), np.int32)], 1, "reference 0 must be uint8 or float"),
        ([np.full((4, 4, 3), np.nan, np.float32)], 1, "reference 0 as float must be finite and within 0..1"),
        ([[halves(4, 4)], [halves(4, 4)] * 2], 2, r"rows have \[1, 2\] references: give every row the same number"),
        ([[halves(4, 4)]], 2, "references are given for 1 batch rows, the stream has 2"),
    ],
)
def test_references_that_cannot_be_used(images, batch, text):
    with pytest.raises(InputError, match=text):
        references(images, batch=batch)


def test_a_file_that_is_no_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("not an image")
    with pytest.raises(InputError, match=r"reference 1: '.*a.png' is not an image"):
        references([halves(4, 4), path])
