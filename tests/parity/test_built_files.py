"""Golden files of shapes the shipped ones do not have, made here with diffusers' own calls."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from vace_adapt.embedded.tiny import seeded
from vace_adapt.errors import GoldenError
from vace_adapt.parity.replay import replay

TOLERANCE = 1e-4
VAE = {
    "base_dim": 4,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.1 * i for i in range(16)],
    "latents_std": [1.0 + 0.1 * i for i in range(16)],
}


def write(path, pipeline, config, tensors):
    metadata = {"format": "vace-adapt-golden/1", "pipeline": pipeline, "config": json.dumps(config), "events": "[]"}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)
    return path


@torch.no_grad()
def encode_file(path, count, chunks=None, without=(), changes=None):
    """A file of pipeline ``vace_encode``: `count` frames under a mask that changes in every frame."""
    vae = seeded(lambda: AutoencoderKLWan(**VAE), 0, "vae")
    random = torch.Generator().manual_seed(count)
    frames = torch.rand(3, count, 16, 24, generator=random) * 2 - 1
    mask = (torch.rand(1, count, 16, 24, generator=random) > 0.5).float()
    mean, std = (torch.tensor(VAE[f"latents_{name}"]).view(16, 1, 1, 1) for name in ("mean", "std"))
    parts = [
        (vae.encode(part[None]).latent_dist.mode()[0] - mean) / std for part in (frames * (1 - mask), frames * mask)
    ]
    latent = torch.cat(parts)
    # VACE's vace_encode_masks: 8x8 pixels to channels, then nearest-exact over all frames
    rows = mask[0].view(count, 2, 8, 3, 8).permute(2, 4, 0, 1, 3).reshape(64, count, 2, 3)
    packed = interpolate(rows[None], size=((count + 3) // 4, 2, 3), mode="nearest-exact")[0]
    tensors = {f"weight.{name}": tensor for name, tensor in vae.state_dict().items()}
    tensors |= {"input.frames": frames, "input.mask": mask, "output.context": torch.cat([latent, packed])}
    config = {**VAE, "refs": 0}
    if chunks is not None:
        config["chunks"] = chunks
        pieces = latent.split([(size + 3) // 4 for size in chunks], dim=1)
        tensors |= {f"output.{i}": piece for i, piece in enumerate(pieces)}
    config = {key: value for key, value in {**config, **(changes or {})}.items() if key not in without}
    return write(path, "vace_encode", config, {key: value for key, value in tensors.items() if key not in without})


@pytest.mark.parametrize("count", [1, 4, 5, 10, 11, 12])
def test_the_mask_is_chosen_from_all_frames(tmp_path, count):
    found = replay(encode_file(tmp_path / "g.safetensors", count))
    assert found.worst < TOLERANCE, found.rows


@pytest.mark.parametrize("chunks", [[9, 12, 8], [5, 4, 8, 16], [1, 4], [13]])
def test_chunks_of_any_lengths(tmp_path, chunks):
    found = replay(encode_file(tmp_path / "g.safetensors", sum(chunks), chunks))
    assert [label for label, _ in found.rows] == ["control latents", *(f"chunk {i}" for i in range(len(chunks)))]
    assert found.worst < TOLERANCE, found.rows


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([8, 4], r"chunks \[8, 4\] are not 4n\+1 frames and then multiples of 4"),
        ([5, 6], r"chunks \[5, 6\] are not 4n\+1 frames and then multiples of 4"),
        ([9, 8], r"chunks \[9, 8\] are 17 frames, input.frames has 13"),
        ([9, 0, 4], r"chunks must be a list of numbers of frames, not \[9, 0, 4\]"),
        ([9.0, 4], r"chunks must be a list of numbers of frames, not \[9.0, 4\]"),
        ([], r"chunks must be a list of numbers of frames, not \[\]"),
        (9, "chunks must be a list of numbers of frames, not 9"),
        (None, "chunks must be a list of numbers of frames, not None"),
    ],
)
def test_chunks_that_cannot_be(tmp_path, chunks, text):
    path = encode_file(tmp_path / "g.safetensors", 13, [9, 4], changes={"chunks": chunks})
    with pytest.raises(GoldenError, match=text):
        replay(path)


@pytest.mark.parametrize("missing", ["chunks", "z_dim", "latents_mean"])
def test_a_config_without_a_key_is_refused(tmp_path, missing):
    path = encode_file(tmp_path / "g.safetensors", 13, [9, 4], without=(missing,))
    with pytest.raises(GoldenError, match=f"config has no '{missing}'"):
        replay(path)


@pytest.mark.parametrize("missing", ["input.mask", "output.context", "output.0", "output.1"])
def test_a_file_without_a_tensor_is_refused(tmp_path, missing):
    path = encode_file(tmp_path / "g.safetensors", 13, [9, 4], without=(missing,))
    with pytest.raises(GoldenError, match=f"no tensor '{missing}'"):
        replay(path)


@torch.no_grad()
def batch_file(path, patch, references):
    """A file of pipeline ``vace_batch`` with its model's own hints."""
    numbers = {
        "patch_size": patch, "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 16, "out_channels": 16,
        "text_dim": 16, "freq_dim": 32, "ffn_dim": 48, "num_layers": 4, "cross_attn_norm": True, "eps": 1e-6,
        "vace_layers": [0, 2], "vace_in_channels": 96,
    }  # fmt: skip
    model = seeded(lambda: WanVACETransformer3DModel(**numbers), 0, "batch")
    random = torch.Generator().manual_seed(0)
    given = {
        "hidden_states": torch.randn(1, 16, 2 + references, 4, 6, generator=random),
        "timestep": torch.tensor([700.0]),
        "control": torch.randn(1, 96, 2 + references, 4, 6, generator=random),
        "scale": torch.tensor([1.0, 0.7]),
    }
    text, hints = torch.randn(1, 8, 16, generator=random), []
    for block in model.vace_blocks:
        block.register_forward_hook(lambda module, inputs, output: hints.append(output[0]))
    output = model(
        given["hidden_states"],
        given["timestep"],
        text,
        control_hidden_states=given["control"],
        control_hidden_states_scale=given["scale"],
        return_dict=False,
    )[0]
    tensors = {f"weight.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"input.{name}": tensor for name, tensor in given.items()}
    tensors |= {f"hint.0.0.{layer}": hint for layer, hint in zip((0, 2), hints, strict=True)}
    config = {"model_kwargs": numbers, "refs": references}
    return write(path, "vace_batch", config, {**tensors, "prompt.a": text, "output.0": output})


@pytest.mark.parametrize("patch", [[1, 2, 2], [1, 1, 2], [1, 4, 1]])
@pytest.mark.parametrize("references", [0, 1])
def test_batch_vace_with_other_patches(tmp_path, patch, references):
    found = replay(batch_file(tmp_path / "g.safetensors", patch, references))
    assert len(found.rows) == 3 + 2 * references
    assert found.worst < TOLERANCE, found.rows
