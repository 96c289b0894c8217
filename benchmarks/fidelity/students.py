"""Which installed pipelines ship a trained student, and which weights a measurement depends on."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save

from vace_adapt.embedded.family import FAMILY_FOLDER
from vace_adapt.facade import PipelineHooks
from vace_adapt.loading import discover, load_plugin


@cache
def students() -> dict[str, Path]:
    """File of the student by pipeline, in the order of their names."""
    found = {}
    for name in sorted(discover()):
        shipped = hooks(name).embedded_base(hooks(name).settings_type()(name=name))
        if shipped is not None:
            found[name] = Path(shipped.file)
    if not found:
        raise SystemExit("no installed pipeline ships trained weights: python recipes/embedded/train.py all")
    return found


@cache
def hooks(pipeline: str) -> PipelineHooks:
    """Of an installed pipeline."""
    return load_plugin(pipeline)


@cache
def weights_hash(pipeline: str | None, *, context: bool = True) -> str:
    """Of the family's files, and of a pipeline's student.

    Args:
        pipeline: whose student runs; None for none.
        context: False leaves out the context blocks, for what is made without hints.
    """
    digest = hashlib.sha256()
    for path in sorted(FAMILY_FOLDER.rglob("*.safetensors")):
        digest.update(path.read_bytes() if context or path.parent.name != "transformer" else _base_bytes(path))
    if pipeline is not None:
        digest.update(students()[pipeline].read_bytes())
    return digest.hexdigest()[:16]


def _base_bytes(path: Path) -> bytes:
    """What a transformer's file holds beside the context blocks."""
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("vace_")}
    return save(tensors)
