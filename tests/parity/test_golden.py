"""Batch VACE and the VACE encoding against tensors of the official code; and every mechanism broken once.

A mutant breaks one mechanism; the file named beside it must then be far outside the tolerance.
"""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import golden, golden_names, patch

from vace_adapt.cli.main import main
from vace_adapt.conditioning import encoder, vae
from vace_adapt.context import blocks, chunk, stream
from vace_adapt.errors import GoldenError
from vace_adapt.models import causal_wan, wan_block
from vace_adapt.parity.replay import replay

TOLERANCE = 1e-4
FILES = golden_names("vace_batch") + golden_names("vace_encode")


@pytest.mark.parametrize("name", FILES)
def test_equals_the_official_code(name):
    found = replay(golden(name))
    assert found.worst < TOLERANCE, found.rows


def no_entry_tokens(real):
    return lambda self, control: real(self, control) * 0


def entry_without_projection(real):
    def entry(self, control):
        tokens = self.vace_patch_embedding(control)
        return tokens.flatten(2).transpose(1, 2)

    return entry


def rows_without_the_base(real):
    return lambda self, given, inputs: real(self, given, inputs) - inputs.hidden


def references_behind_the_chunk(real):
    def rotation(self, start, frames):
        count = 0 if self._references is None else self._references.count
        chunk = frames - count
        return self._rope.at([*range(chunk, frames), *range(chunk)]) if count else real(self, start, frames)

    return rotation


def hints_of_the_wrong_rows(real):
    return lambda self, *args, **options: [hint.roll(1, dims=1) for hint in real(self, *args, **options)]


def no_layer_factor(real):
    return lambda self, hints: list(zip(self._path.layers, hints, strict=True))


def one_block_late(real):
    def forward(self, latents, timestep, text, layer_cache, hints):
        late = lambda inputs: {layer + 1: hint for layer, hint in hints(inputs).items()}  # noqa: E731
        return real(self, latents, timestep, text, layer_cache, late)

    return forward


def modulation_halved(real):
    return lambda block, x, modulation, text, attend: real(block, x, modulation / 2, text, attend)


def no_text(real):
    return lambda attention, x, key, value: real(attention, x, key * 0, value * 0)


def not_normalised(real):
    return lambda self, latents: latents.float()


def sampled_not_mean(real):
    return lambda self, encoded: real(self, encoded) + 0.01


def columns_before_rows(real):
    def pack(mask, frames):
        return real(mask.transpose(3, 4), frames).transpose(3, 4)

    return pack


def group_rule(real):
    return lambda rule, *args: real("group", *args)


def nothing_reactive(real):
    return lambda self, chunk, frames, mask: real(self, chunk, frames, torch.zeros_like(mask))


def references_as_one_clip(real):
    def references(self, images):
        control, latents = real(self, images)
        return control.roll(1, dims=2), latents

    return references


def one_state_for_two_streams(real):
    """From the second chunk on, as where both streams use the model's own memory."""

    def control(self, chunk, frames, mask):
        found = real(self, chunk, frames, mask)
        self._reactive._state = self._inactive._state
        return found

    return control


def state_forgotten_between_chunks(real):
    def encode(self, pixels):
        found = real(self, pixels)
        self._state = None
        return found

    return encode


MUTANTS = {
    "control is not embedded": (patch(blocks.ContextPath, "entry", no_entry_tokens), "vace_batch/refs0"),
    "before_proj is left out": (patch(blocks.ContextPath, "entry", entry_without_projection), "vace_batch/refs0"),
    "base tokens are not added": (patch(chunk.ChunkContext, "_rows", rows_without_the_base), "vace_batch/refs0"),
    "references stand behind": (
        patch(stream.ContextStream, "rotation", references_behind_the_chunk), "vace_batch/refs3",
    ),
    "hints of other rows": (patch(chunk.ChunkContext, "_blocks", hints_of_the_wrong_rows), "vace_batch/refs1"),
    "scale is ignored": (patch(chunk.ChunkContext, "_weighted", no_layer_factor), "vace_batch/mixed_mask_scale07"),
    "hints one block late": (patch(causal_wan.CausalWan, "forward", one_block_late), "vace_batch/refs0"),
    "modulation is wrong": (patch(blocks, "run_block", modulation_halved), "vace_batch/refs0"),
    "base modulation is wrong": (patch(causal_wan, "run_block", modulation_halved), "vace_batch/refs0"),
    "text is not attended": (patch(wan_block, "text_attention", no_text), "vace_batch/refs0"),
    "latents are not normalised": (patch(vae.VaeCodec, "normalise", not_normalised), "vace_encode/all_ones"),
    "not the posterior mean": (patch(vae.VaeCodec, "posterior_mean", sampled_not_mean), "vace_encode/all_ones"),
    "mask channels transposed": (patch(encoder, "pack_mask", columns_before_rows), "vace_encode/per_frame_mask"),
    "mask on the VAE's grid": (patch(encoder, "mask_frames", group_rule), "vace_encode/firstframe"),
    "mask is ignored": (patch(encoder.ControlEncoder, "control", nothing_reactive), "vace_encode/static_mask"),
    "references out of order": (
        patch(encoder.ControlEncoder, "references", references_as_one_clip), "vace_encode/refs3_static_mask",
    ),
    "streams share their state": (
        patch(encoder.ControlEncoder, "control", one_state_for_two_streams), "vace_encode/stream_9_12_12",
    ),
    "state is lost between chunks": (
        patch(vae.EncoderStream, "encode", state_forgotten_between_chunks), "vace_encode/stream_9_12_12",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    breaks, name = MUTANTS[mutant]
    breaks(monkeypatch)
    assert replay(golden(name)).worst > 10 * TOLERANCE


# --- the command ---------------------------------------------------------------------------------------------------


def test_command_prints_errors_and_passes(capsys):
    files = [str(golden(name)) for name in ("vace_batch/refs1", "vace_encode/stream_9_12_12", "longlive/batch2")]
    assert main(["parity", *files]) == 0
    printed = capsys.readouterr().out
    assert "chunk 2" in printed
    assert "hint, references outside the latents, 2" in printed
    assert printed.endswith("3 of 3 files within 0.0001\n")


def test_command_fails_above_tolerance(capsys, tmp_path):
    path = tmp_path / "off.safetensors"
    tensors = load_file(golden("selfforcing/window6_sink2"))
    with safe_open(golden("selfforcing/window6_sink2"), "pt") as handle:
        metadata = handle.metadata()
    tensors["output.3"] = tensors["output.3"] + 0.01
    save_file(tensors, path, metadata=metadata)
    assert main(["parity", str(path)]) == 1
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "above tolerance" in line]
    assert line.split()[:2] == ["chunk", "3"]
    assert "0 of 1 files within 0.0001" in printed
    assert main(["parity", str(path), "--tolerance", "0.1"]) == 0


def test_nan_is_infinitely_wrong(tmp_path):
    tensors = load_file(golden("selfforcing/window6_sink2"))
    with safe_open(golden("selfforcing/window6_sink2"), "pt") as handle:
        metadata = handle.metadata()
    tensors["output.3"] = tensors["output.3"] * float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", metadata=metadata)
    assert replay(tmp_path / "nan.safetensors").worst == float("inf")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "is not a golden file: format is None, expected 'vace-adapt-golden/1'"),
        ({"format": "vace-adapt-golden/2", "pipeline": "x"}, "format is 'vace-adapt-golden/2'"),
        (
            {"format": "vace-adapt-golden/1", "pipeline": "magic", "config": "{}"},
            r"no installed pipeline reads golden files of 'magic' \(known: vace_batch, vace_encode, .*longlive",
        ),
        (
            {"format": "vace-adapt-golden/1", "pipeline": "vace_batch", "config": "nonsense"},
            "its config or events are not JSON",
        ),
        (
            {"format": "vace-adapt-golden/1", "pipeline": "vace_batch", "config": "{}"},
            "config has no 'model_kwargs'",
        ),
        (
            {"format": "vace-adapt-golden/1", "pipeline": "longlive", "config": "{}"},
            "config has no 'steps_used'",
        ),
    ],
)
def test_files_that_cannot_be_replayed(tmp_path, metadata, text):
    save_file({"a": torch.ones(1)}, tmp_path / "g.safetensors", metadata=metadata)
    with pytest.raises(GoldenError, match=text):
        replay(tmp_path / "g.safetensors")


def test_command_refuses_with_one_line_and_status_2(tmp_path, capsys):
    (tmp_path / "text.safetensors").write_text("hello")
    for path, text in ((tmp_path / "text.safetensors", "is not a safetensors file"), (tmp_path / "none", "no file")):
        assert main(["parity", str(path)]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert text in printed.err
        assert printed.err.count("\n") == 1
