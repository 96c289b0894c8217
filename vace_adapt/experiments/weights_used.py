"""Which weight files a run reads."""

from __future__ import annotations

from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import WeightsSettings
from vace_adapt.embedded.family import family_weights
from vace_adapt.experiments.files import FileMark
from vace_adapt.facade import PipelineHooks
from vace_adapt.weights.locate import locate, weight_files

PARTS = {"base": None, "lora": None, "vae": "vae", "text_encoder": "text_encoder", "control": "transformer"}
"""The parts, and the folder of a diffusers pipeline in which each lies."""


def weight_marks(settings: RunSettings, hooks: PipelineHooks) -> dict[str, tuple[FileMark, ...]]:
    """Marks of the weight files by part; empty where the weights are random."""
    files = settings.weights
    if files.embedded:
        shipped = hooks.embedded_base(settings.pipeline)
        if shipped is None:
            return {}
        files = family_weights(shipped.file, download=files.download)
    return marks_of(files)


def marks_of(files: WeightsSettings) -> dict[str, tuple[FileMark, ...]]:
    """Marks of the files behind paths and hub ids."""
    marks = {}
    for part, subfolder in PARTS.items():
        source = getattr(files, part)
        if source is not None:
            path = locate(source, download=files.download)
            inner = path / subfolder if subfolder and (path / subfolder).is_dir() else path
            marks[part] = tuple(FileMark.of(file) for file in weight_files(inner))
    return marks
