"""The flow of a clip against its pictures: the frame before, moved along the flow, is the frame."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from embedded.world.staged import scene, thing

from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import SIZE, draw_scene

STEADY = {"frames": 9, "things": 1}


def moved(picture, flow):
    """What a picture of the frame before looks like after this motion."""
    x, y = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    return cv2.remap(
        picture.astype(np.float32), x - flow[..., 0], y - flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def without_border(region, width):
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.erode(region.astype(np.uint8), square, borderValue=0).astype(bool)


def error(clip, region, width):
    """Mean difference in gray levels between every frame and the one before it, moved, within a region [T, H, W]."""
    found = []
    for t in range(1, len(clip.frames)):
        difference = abs(moved(clip.frames[t - 1], clip.flow[t]) - clip.frames[t])
        found.append(difference[without_border(region[t], width)])
    return float(np.concatenate(found).mean())


def backwards(clip):
    return replace(clip, flow=-clip.flow)


@pytest.mark.parametrize("seed", [3, 8, 10, 11])
def test_textures_move_along_the_flow(seed):
    clip = render(draw_scene(seed, **STEADY, puppet=False))
    assert error(clip, clip.masks[0] > 0.99, 2) < 2
    assert error(backwards(clip), clip.masks[0] > 0.99, 2) > 7


@pytest.mark.parametrize("seed", [3, 18])
def test_backgrounds_move_along_the_flow(seed):
    clip = render(draw_scene(seed, **STEADY, puppet=False))
    assert error(clip, clip.masks[0] < 0.01, 3) < 0.5
    assert error(backwards(clip), clip.masks[0] < 0.01, 3) > 2


def test_turning_is_motion():
    clip = render(scene(thing("square", texture="striped", radius=20.0, spin=0.06)))
    assert error(clip, clip.masks[0] > 0.99, 2) < 2
    assert error(backwards(clip), clip.masks[0] > 0.99, 2) > 7
    still = replace(clip, flow=np.zeros_like(clip.flow))
    assert error(still, clip.masks[0] > 0.99, 2) > 4


def limbs_error(clip):
    """How far the figure of every frame is from the one before, moved."""
    found = []
    for t in range(1, len(clip.frames)):
        figure = clip.masks[0, t]
        found.append(abs(moved(clip.masks[0, t - 1], clip.flow[t]) - figure)[figure > 0.5].mean())
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(5))
def test_limbs_move_along_the_flow(seed):
    clip = render(draw_scene(seed, 13, things=1, puppet=True))
    assert limbs_error(clip) < 0.06
    assert limbs_error(backwards(clip)) > 0.15
    body = np.diff(clip.scene.things[0].track, axis=0, prepend=clip.scene.things[0].track[:1])
    stiff = replace(clip, flow=np.broadcast_to(body[:, None, None], clip.flow.shape))
    assert limbs_error(stiff) > 1.2 * limbs_error(clip), "and not only with the body"


def test_whole_pixels_move_to_the_bit():
    clip = render(scene(thing("cross", at=(20.5, 40.5), by=(2, -1), texture="striped"), drift=(-1, 0)))
    for t in range(1, 5):
        inside = clip.masks[0, t] > 0.9999
        assert (clip.flow[t][inside] == (2, -1)).all()
        assert (clip.flow[t][clip.masks[0, t] < 0.5] == (1, 0)).all(), (
            "the camera to the left, the picture to the right"
        )
        before = np.roll(clip.frames[t - 1], (-1, 2), axis=(0, 1))
        assert np.array_equal(clip.frames[t][inside], before[inside])


@pytest.mark.parametrize("seed", range(5))
def test_each_pixel_has_the_flow_of_what_is_seen_there(seed):
    clip = render(draw_scene(seed, 3, things=3))
    for number, seen in enumerate(clip.masks > 0.6):
        alone = render(replace(clip.scene, things=(clip.scene.things[number],)))
        assert np.array_equal(clip.flow[1:][seen[1:]], alone.flow[1:][seen[1:]])
    assert len({tuple(one) for one in clip.flow[1].reshape(-1, 2).tolist()}) > 3


def test_the_first_picture_is_as_the_second():
    clip = render(draw_scene(3, 4))
    assert np.array_equal(clip.flow[0], clip.flow[1])
    assert not np.array_equal(clip.flow[1], clip.flow[2])
