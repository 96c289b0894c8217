"""The real official model, attached live, beside diffusers' class with its weights.

Runs where ``VACE_ADAPT_FRAMEPACK`` names a checkout of lllyasviel/FramePack; nothing of it is in this repository. Its
modules replace the forward of norms in torch and diffusers for the whole process, which is undone at the end.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import sys
import types

import accelerate.accelerator
import numpy as np
import pytest
import torch
from diffusers.models import normalization
from framepack_files import OFFICIAL_ARGUMENTS, save_hunyuan, settings_of, weights_of
from safetensors.torch import save_file
from support import distance, frames, same
from torch.nn.functional import scaled_dot_product_attention

from vace_adapt import load_pipeline
from vace_adapt.errors import SessionError
from vace_adapt_framepack.hunyuan import context
from vace_adapt_framepack.hunyuan.context import HunyuanContext
from vace_adapt_framepack.hunyuan.model import OFFICIAL

CHECKOUT = os.environ.get("VACE_ADAPT_FRAMEPACK")
pytestmark = pytest.mark.skipif(CHECKOUT is None, reason="VACE_ADAPT_FRAMEPACK names no checkout of FramePack")

NORMS = ("RMSNorm", "LayerNorm", "FP32LayerNorm", "AdaLayerNormContinuous")


@pytest.fixture(scope="module")
def official():
    """The checkout's model module; what it replaces elsewhere is put back at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKOUT)
        for package in ("torchvision", "cv2"):  # imported beside the model, for pictures
            if importlib.util.find_spec(package) is None:
                patch.setitem(sys.modules, package, types.ModuleType(package))
        for owner in (torch.nn.LayerNorm, *(getattr(normalization, name) for name in NORMS)):
            patch.setattr(owner, "forward", owner.forward)
        patch.setattr(accelerate.accelerator, "convert_outputs_to_fp32", lambda x: x)
        yield importlib.import_module("diffusers_helper.models.hunyuan_video_packed")
        for name in [name for name in sys.modules if name.startswith("diffusers_helper")]:
            patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny files in the released layouts, with context blocks that do say something."""
    folder = tmp_path_factory.mktemp("hunyuan")
    parts = save_hunyuan(folder)
    torch.manual_seed(0)
    beside = HunyuanContext.beside(parts.model, (0, 1, 3))
    for name, parameter in beside.named_parameters():
        if "_proj" in name and "blocks" not in name:
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    save_file(beside.state_dict(), folder / "context.safetensors")
    return folder


def pipeline(folder, model=None, *, steered=True, **settings):
    weights = {**weights_of(folder), "control": str(folder / "context.safetensors") if steered else None}
    return load_pipeline(
        "framepack",
        weights=weights if model is None else {**weights, "base": None},
        settings={**settings_of(folder), "steps": 2, **settings},
        model=model,
        layout=None if model is None else OFFICIAL,
        device="cpu",
        dtype="float32",
    )


def live_model(module, folder):
    """The official class, with the weights of the files."""
    config = json.loads((folder / "framepack" / "config.json").read_text())
    model = module.HunyuanVideoTransformer3DModelPacked(**{name: config[name] for name in OFFICIAL_ARGUMENTS})
    model.load_state_dict(pipeline(folder, steered=False).parts.model.state_dict())
    return model.eval().requires_grad_(False)


def stream(pipe, *, control=True, batch=1):
    prompts, fed = ["a red ball", "two dogs run"][:batch], np.stack([frames(73)] * batch)
    with pipe.stream(prompts, seed=[*range(batch)], num_frames=73, height=32, width=48) as session:
        if control:
            session.feed(fed, last=True)
        return [chunk.latents.clone() for chunk in session]


@pytest.mark.parametrize(
    "settings", [{}, {"sampling": "inverted", "sections": 2}, {"guidance": 2.0}, {"strength": 0.6}]
)
def test_the_real_live_model_equals_diffusers(official, folder, settings):
    live = live_model(official, folder)
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    pipe = pipeline(folder, live, **settings)
    made = stream(pipe)
    pipe.detach()
    assert distance(made, stream(pipeline(folder, **settings))) < 1e-4
    assert distance(made, stream(pipeline(folder, steered=False, **settings))) > 1e-3, "the context blocks steer"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in live.modules())
    assert live.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in live.state_dict().items())


def spans(mask, video_tokens):
    """In place of the checkout's own, which is for CUDA alone: where what attends to itself ends."""
    whole, own = mask.shape[1] + video_tokens, mask.sum(dim=1) + video_tokens
    ends = [0]
    for row, tokens in enumerate(own.tolist()):
        ends += [row * whole + tokens, (row + 1) * whole]
    return torch.tensor(ends, dtype=torch.int32)


def attention_of_spans(q, k, v, ends, *rest):
    """In place of flash-attention, which a CPU does not have. Tokens of all rows in one sequence [N, heads, d]."""
    made = torch.empty_like(q)
    for first, last in itertools.pairwise(ends.tolist()):
        part = [tensor[first:last].transpose(0, 1) for tensor in (q, k, v)]
        made[first:last] = scaled_dot_product_attention(*part).transpose(0, 1)
    return made


def test_rows_of_a_batch(official, folder, monkeypatch):
    """Their prompts are of several lengths, so there is a mask."""
    monkeypatch.setattr(official, "get_cu_seqlens", spans)
    monkeypatch.setattr(official, "flash_attn_varlen_func", attention_of_spans)
    live = live_model(official, folder)
    made = stream(pipeline(folder, live), batch=2)
    assert distance(made, stream(pipeline(folder), batch=2)) < 1e-4
    monkeypatch.setattr(context, "without_rows", lambda mask, rows: mask)
    assert not distance(stream(pipeline(folder, live_model(official, folder)), batch=2), made) < 1e-4


def test_a_live_model_without_control_is_its_own(official, folder):
    live = live_model(official, folder)
    pipe = pipeline(folder, live)
    silent = stream(pipeline(folder, steered=False), control=False)
    assert distance(stream(pipe, control=False), silent) < 1e-4
    pipe.detach()
    assert same(stream(pipeline(folder, live, steered=False)), stream(pipeline(folder, live, steered=False)))


def test_its_teacache_is_refused_under_control(official, folder):
    live = live_model(official, folder)
    pipe = pipeline(folder, live)
    live.initialize_teacache(True, num_steps=2)
    with pytest.raises(SessionError, match=r"TeaCache skips the blocks .* initialize_teacache\(False\)"):
        stream(pipe)
    live.initialize_teacache(False)
    assert len(stream(pipe)) == 2
    pipe.detach()
