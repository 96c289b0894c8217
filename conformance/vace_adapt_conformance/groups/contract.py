"""What the plugin says of itself, and its tiny pipeline."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
import yaml
from pydantic import ValidationError

from vace_adapt.contract import PipelineInfo
from vace_adapt.errors import PluginError
from vace_adapt_conformance.check import check, expect, expect_bits
from vace_adapt_conformance.subject import Subject


@check("contract")
def plugin_loads(subject: Subject) -> None:
    """Hooks have the contract's names and arguments; name and HOOK_API are this pipeline's and this core's."""
    if subject.missing:
        raise NotImplementedError(", ".join(subject.missing))
    try:
        _ = subject.hooks
    except PluginError as error:
        raise AssertionError(str(error)) from error


@check("contract")
def imports_no_torch(subject: Subject) -> None:
    """Importing the plugin, describing it and naming its settings imports no torch."""
    if subject.module is None:
        return
    code = (
        f"import sys, {subject.module} as plugin\n"
        "plugin.vace_describe(), plugin.vace_settings()\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    expect(not done.stderr, f"importing {subject.module} alone: {(done.stderr.strip() or '?').splitlines()[-1]}")
    expect(done.returncode == 0, f"importing {subject.module} imports torch: import it inside the hooks that need it")


@check("contract")
def info_is_plain(subject: Subject) -> None:
    """What `vace_describe` gives is a PipelineInfo that survives JSON, the same at every call."""
    info = subject.hooks.info
    try:
        again = PipelineInfo.model_validate_json(info.model_dump_json())
    except ValidationError as error:
        raise AssertionError(f"vace_describe: as JSON it is no PipelineInfo: {_line(error)}") from error
    expect(again == info, "vace_describe: what came back from JSON is not what was written")


@check("contract")
def settings_are_the_yaml(subject: Subject) -> None:
    """Defaults of the settings equal ``conf/pipeline/NAME.yaml``, number by number."""
    if subject.module is None:
        return
    file = subject.configuration
    expect(file is not None, f"no conf/pipeline/{subject.name}.yaml beside {subject.module}")
    assert file is not None
    kind = subject.hooks.settings_type()
    written = yaml.safe_load(file.read_text())
    try:
        read = kind.model_validate(written)
    except ValidationError as error:
        raise AssertionError(f"{file.name} is not valid: {_line(error)}") from error
    default = kind(name=subject.name)
    for field in kind.model_fields:
        one, other = getattr(read, field), getattr(default, field)
        expect(one == other, f"{field} is {one} in {file.name}, the settings' default is {other}")
        expect(field in written, f"{field} is not in {file.name}, where every number of the settings is to be seen")


@check("contract")
def settings_refuse_unknown_keys(subject: Subject) -> None:
    """Settings refuse a key that they do not have, and cannot be changed."""
    kind = subject.hooks.settings_type()
    try:
        kind.model_validate({"name": subject.name, "no_such_key": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError(f"{kind.__name__} takes the unknown key no_such_key, extra keys must be forbidden")
    expect(bool(kind.model_config.get("frozen")), f"{kind.__name__} is not frozen")


@check("contract")
def tiny_depends_on_its_seed(subject: Subject) -> None:
    """Weights of the tiny pipeline: the same bits for the same seed, others for another seed."""
    one, again, other = (subject.fresh(seed).parts for seed in (0, 0, 1))
    for part in ("model", "vae"):
        states = [getattr(parts, part).state_dict() for parts in (one, again, other)]
        for name in states[0]:
            expect_bits(states[1][name], states[0][name], f"{part} {name}, built twice with seed 0")
        same = all(torch.equal(states[0][name], states[2][name]) for name in states[0])
        expect(not same, f"{part}: seed 1 gives the weights of seed 0")


@check("contract")
def tiny_leaves_the_generator(subject: Subject) -> None:
    """Building the tiny pipeline draws nothing from torch's global generator and does not seed it."""
    before = torch.get_rng_state()
    subject.fresh()
    expect(torch.equal(torch.get_rng_state(), before), "vace_tiny_pipeline changed the state of the global generator")


@check("contract")
def parts_are_ready(subject: Subject) -> None:
    """Parts are in evaluation mode, need no gradient, are untrained and of the first layout, with a draw a step."""
    parts = subject.fresh().parts
    for name in ("model", "vae"):
        module = getattr(parts, name)
        expect(not any(child.training for child in module.modules()), f"parts.{name} is in training mode")
        asking = [key for key, parameter in module.named_parameters() if parameter.requires_grad]
        expect(not asking, f"parts.{name}: {asking[:1]} requires a gradient")
    expect(not parts.trained, "parts.trained is True, the tiny pipeline has random weights")
    expect(parts.draws >= 1, f"parts.draws is {parts.draws}, a chunk has at least one noise")
    expect(parts.layout == subject.layout, f"parts.layout is {parts.layout!r}, expected {subject.layout!r}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
