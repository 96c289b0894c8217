"""Golden files that were edited or damaged: one line that names the file, never a raw exception."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import golden

from vace_adapt.cli.main import main
from vace_adapt.errors import GoldenError, PipelineBroken
from vace_adapt.parity import replay as module
from vace_adapt.parity.replay import replay

LONGLIVE, BATCH, ENCODE = "longlive/window6_sink2", "vace_batch/refs1", "vace_encode/stream_9_12_12"


def edited(tmp_path, name, *, numbers=None, tensors=None, **metadata):
    """A copy with changed config keys, tensors and metadata; a tensor that becomes None is taken out."""
    with safe_open(golden(name), "pt") as handle:
        old = handle.metadata()
    held = load_file(golden(name))
    for key, change in (tensors or {}).items():
        held[key] = change(held[key])
    if numbers:
        metadata["config"] = json.dumps({**json.loads(old["config"]), **numbers})
    path = tmp_path / "edited.safetensors"
    save_file({key: t.contiguous() for key, t in held.items() if t is not None}, path, metadata={**old, **metadata})
    return path


def refused(path, text):
    with pytest.raises(GoldenError, match=text) as caught:
        replay(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [LONGLIVE, BATCH, ENCODE])
@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"config": "5"}, "config must be a JSON object, not 5$"),
        ({"config": "null"}, "config must be a JSON object, not None$"),
        ({"config": "[]"}, r"config must be a JSON object, not \[\]$"),
        ({"config": "{"}, "its config or events are not JSON: JSONDecodeError: "),
        ({"events": "5"}, "events must be a list of JSON objects, not 5$"),
        ({"events": "null"}, "events must be a list of JSON objects, not None$"),
        ({"events": "[1]"}, r"events must be a list of JSON objects, not \[1\]$"),
    ],
)
def test_metadata_of_another_form(tmp_path, name, metadata, text):
    refused(edited(tmp_path, name, **metadata), text)


@pytest.mark.parametrize(
    ("name", "changes", "cause"),
    [
        (LONGLIVE, {"events": "[{}]"}, "KeyError: 'chunk'"),
        (LONGLIVE, {"numbers": {"chunks": "x"}}, "TypeError: "),
        (
            LONGLIVE,
            {"numbers": {"num_heads": 0}},
            "ValidationError: Backbone: heads: must be greater than or equal to 1, not 0$",
        ),
        (LONGLIVE, {"numbers": {"dim": "x"}}, "ValidationError: Backbone: dim: must be a valid integer"),
        (
            LONGLIVE,
            {"numbers": {"patch_size": []}},
            "ValidationError: Backbone: patch.0: is missing; patch.1: is missing",
        ),
        (LONGLIVE, {"numbers": {"steps_used": None}}, "TypeError: "),
        (LONGLIVE, {"tensors": {"noise.1": torch.flatten}}, r"\w+Error: "),
        (BATCH, {"numbers": {"model_kwargs": None}}, "TypeError: "),
        (BATCH, {"numbers": {"model_kwargs": {}}}, "KeyError: 'num_attention_heads'"),
        (BATCH, {"numbers": {"refs": "x"}}, "ValueError: "),
        (BATCH, {"tensors": {"prompt.a": lambda t: t[..., :3]}}, "RuntimeError: "),
        (BATCH, {"tensors": {"input.scale": lambda t: t[:1]}}, "."),
        (ENCODE, {"numbers": {"dim_mult": 5}}, "TypeError: "),
        (ENCODE, {"numbers": {"latents_std": [0.0] * 16}}, "latents_std of the VAE must be over 0, not 0"),
        (ENCODE, {"tensors": {"input.frames": torch.flatten}}, "IndexError: "),
        (ENCODE, {"tensors": {"input.mask": lambda t: t[:, :7]}}, "RuntimeError: "),
    ],
)
def test_numbers_that_do_not_fit_together(tmp_path, name, changes, cause):
    refused(edited(tmp_path, name, **changes), f"(cannot be replayed|do not fit its config): {cause}")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [(LONGLIVE, "weight.head.head.bias"), (BATCH, "weight.proj_out.bias"), (ENCODE, "weight.quant_conv.bias")],
)
def test_weights_that_do_not_fit(tmp_path, name, tensor):
    path = edited(tmp_path, name, tensors={tensor: lambda t: t[:1]})
    refused(path, "its weights do not fit its config: RuntimeError: .*size mismatch")


@pytest.mark.parametrize("layer", [0, 2])
def test_an_expected_hint_that_is_not_there(tmp_path, layer):
    path = edited(tmp_path, BATCH, tensors={f"hint.0.0.{layer}": lambda t: None})
    refused(path, f"no tensor 'hint.0.0.{layer}'$")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), PipelineBroken("x", "x 1", "y 1", OSError())])
def test_errors_that_are_not_the_files_pass_unchanged(monkeypatch, error):
    def fail(golden):
        raise error

    monkeypatch.setitem(module.CORE, "vace_batch", fail)
    with pytest.raises(type(error)) as caught:
        replay(golden(BATCH))
    assert caught.value is error


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    path = edited(tmp_path, LONGLIVE, events="[{}]")
    assert main(["parity", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path} cannot be replayed: KeyError: 'chunk'\n"


def test_nothing_but_the_error_is_on_stderr(tmp_path):
    """In a process of its own, where torch and its neighbours are imported first."""
    command = [sys.executable, "-m", "vace_adapt", "parity", str(tmp_path / "none")]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert printed.returncode == 2
    assert printed.stderr == f"error: no file {str(tmp_path / 'none')!r}\n"
