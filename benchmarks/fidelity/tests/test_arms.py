"""Streams without hints: made once where the prompt alone acts, and on their own where something else does."""

from __future__ import annotations

import shutil

import arms
import numpy as np
import pytest
import students
from arms import Arm, stream
from cases import CASES
from safetensors.torch import load_file, save_file

FRAMES = 21


def by(name, case, hints):
    """What a stream is given, and what it makes, with nothing remembered."""
    given = case.give(case.clip(0, FRAMES))
    return given, stream(arms._pipeline(name, ()), given, 0, FRAMES, hints)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("longlive", "depth"),
        ("longlive", "reference + depth"),
        ("framepack", "depth"),
        ("streamdiffusion", "depth"),
        ("longlive", "inpaint, kept"),
    ],
)
def test_what_is_remembered_is_what_would_be_made(name, case):
    given, made = by(name, CASES[case], hints=False)
    arm = Arm("", hints=False, pipeline=name)
    for _ in range(2):
        assert np.array_equal(arm.frames(CASES[case], given, 0, 0, FRAMES), made)


def test_with_hints_a_stream_is_another():
    given, made = by("longlive", CASES["depth"], hints=True)
    bare = Arm("", hints=False, pipeline="longlive").frames(CASES["depth"], given, 0, 0, FRAMES)
    assert not np.array_equal(made, bare)


def test_only_what_the_prompt_alone_makes_is_remembered():
    arms._prompted.cache_clear()
    for name, case, remembered in (
        ("streamdiffusion", "depth", 0),
        ("longlive", "first frame", 0),
        ("longlive", "depth", 1),
    ):
        given = CASES[case].give(CASES[case].clip(0, FRAMES))
        Arm("", hints=False, pipeline=name).frames(CASES[case], given, 0, 0, FRAMES)
        assert arms._prompted.cache_info().currsize == remembered


ARMS = {
    "batch": Arm("", kind="batch"),
    "stream": Arm("", pipeline="longlive"),
    "no hints": Arm("", hints=False, pipeline="longlive"),
    "codec": Arm("", kind="codec"),
    "chance": Arm("", kind="chance"),
}


@pytest.mark.parametrize(
    ("changed", "again"),
    [("vace_blocks.0.proj_in.weight", {"batch", "stream"}), ("blocks.0.attn1.to_q.weight", set(ARMS))],
)
def test_only_what_the_context_blocks_act_on_is_measured_again_with_them(changed, again, tmp_path, monkeypatch):
    before = {name: arm.weights for name, arm in ARMS.items()}
    shutil.copytree(students.FAMILY_FOLDER, tmp_path / "family")
    file = tmp_path / "family" / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors[changed] = tensors[changed] + 1
    save_file(tensors, file)
    monkeypatch.setattr(students, "FAMILY_FOLDER", tmp_path / "family")
    students.weights_hash.cache_clear()
    after = {name: arm.weights for name, arm in ARMS.items()}
    students.weights_hash.cache_clear()
    assert {name for name in ARMS if before[name] != after[name]} == again
