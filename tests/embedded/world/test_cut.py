from __future__ import annotations

import numpy as np

from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene


def test_a_part_of_a_clip_is_what_its_frames_show():
    clip = render(draw_scene(7, 9, things=2))
    part = clip.cut(3, 7)
    assert part.scene is clip.scene
    for name in ("frames", "depth", "flow"):
        assert np.array_equal(getattr(part, name), getattr(clip, name)[3:7])
    assert np.array_equal(part.masks, clip.masks[:, 3:7])
    assert not np.array_equal(part.frames, clip.cut(4, 8).frames)
