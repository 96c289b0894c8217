"""Names of Wan2.1 tensors: the original repository's and diffusers'.

Original names also cover LongLive, Self-Forcing, MemFlow and StreamDiffusionV2, whose parameters are Wan2.1's.
"""

from __future__ import annotations

RENAMES = (
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("head.modulation", "scale_shift_table"),
    ("head.head.", "proj_out."),
    (".modulation", ".scale_shift_table"),
    (".self_attn.o.", ".attn1.to_out.0."),
    (".cross_attn.o.", ".attn2.to_out.0."),
    (".self_attn.norm_", ".attn1.norm_"),
    (".cross_attn.norm_", ".attn2.norm_"),
    (".self_attn.", ".attn1.to_"),
    (".cross_attn.", ".attn2.to_"),
    (".norm3.", ".norm2."),
    (".ffn.0.", ".ffn.net.0.proj."),
    (".ffn.2.", ".ffn.net.2."),
    (".before_proj.", ".proj_in."),
    (".after_proj.", ".proj_out."),
)
"""Original to diffusers, in order; at most one attention rule applies to a name."""


def is_original(name: str) -> bool:
    """Whether a name is in the original layout and not in diffusers'."""
    marks = (
        ".self_attn.",
        ".cross_attn.",
        ".modulation",
        "time_embedding.",
        "text_embedding.",
        "before_proj",
        "after_proj",
    )
    return any(mark in name for mark in marks) or name.startswith("head.")


def to_diffusers(name: str) -> str:
    """An original name as diffusers writes it; the same for names both share."""
    for old, new in RENAMES:
        if old in name:
            name = name.replace(old, new)
    return name
