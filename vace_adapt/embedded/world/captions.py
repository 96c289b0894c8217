"""What captions say, in a closed vocabulary."""

from __future__ import annotations

from vace_adapt.embedded.world.scene import COLOURS, GROUNDS, PATTERNS, PUPPET, Scene
from vace_adapt.embedded.world.shapes import SHAPES, TEXTURES

WORDS = (
    "a", "an", "and", "on", *COLOURS, *GROUNDS, *PATTERNS, *SHAPES, PUPPET,
    *(name for name in TEXTURES if name != "solid"),
)  # fmt: skip
"""Every word of a caption. The nearest thing is named first."""


def caption(scene: Scene, *, appearance: bool = True) -> str:
    """Describe a scene, e.g. ``a red striped ball and a blue ring on navy tiles``.

    Args:
        scene: what is shown.
        appearance: say colour and texture of the things; False leaves both out.
    """
    named = []
    for thing in reversed(scene.things):
        words = (thing.colour, *thing.words) if appearance else (thing.kind,)
        named.append(f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}")
    return f"{' and '.join(named)} on {scene.ground} {scene.pattern}"
