"""``vace-adapt list``, ``show`` and ``annotators``. No torch here, and a broken plugin does not stop the others."""

from __future__ import annotations

from vace_adapt import __version__
from vace_adapt.annotators.find import annotator_names, load_annotator
from vace_adapt.batch.declaration import BATCH_VACE, INFO
from vace_adapt.cli.status import DONE
from vace_adapt.contract import CAPABILITIES, PipelineInfo, Support
from vace_adapt.errors import PluginError
from vace_adapt.facade import PipelineHooks
from vace_adapt.loading import describe_all, load_plugin


def list_pipelines() -> int:
    """One line for each installed pipeline."""
    found = describe_all()
    if not found:
        print("no pipelines are installed")
    width = max((len(name) for name, _ in found), default=0)
    for name, hooks in found:
        if isinstance(hooks, PluginError):
            print(f"{name:<{width}}  broken: {hooks}")
        else:
            print(f"{name:<{width}}  {hooks.info.title} ({hooks.distribution})")
    return DONE


def list_annotators() -> int:
    """One line for each installed annotator, and what it needs."""
    names = annotator_names()
    width = max(map(len, names), default=0)
    for name in names:
        try:
            info = load_annotator(name)
        except PluginError as error:
            print(f"{name:<{width}}  broken: {error}")
            continue
        carries = f"; carries {info.state}" if info.state else ""
        needs = [f"weights {info.weights}"] if info.weights else []
        needs += [f"pip install 'vace-adapt[{info.extra}]'"] if info.extra else []
        needed = f"; needs {' and '.join(needs)}" if needs else ""
        print(f"{name:<{width}}  {info.makes}: {info.summary}{carries}{needed}")
    return DONE


def show_pipeline(name: str) -> int:
    """What a pipeline is and can do."""
    info, distribution = (INFO, f"vace-adapt {__version__}") if name == BATCH_VACE else _said(load_plugin(name))
    print(f"{info.name}: {info.title}")
    print(f"distribution  {distribution}, HOOK_API {info.hook_api}")
    print(f"upstream      {info.upstream}")
    for size, backbone in info.backbones.items():
        print(f"backbone      {size}: width {backbone.dim}, {backbone.layers} blocks, {backbone.heads} heads")
    print(f"video         {info.video.height}x{info.video.width} (height x width) at {info.video.rate} frames a second")
    print(f"layouts       {', '.join(f'{layout} (hints by {way.value})' for layout, way in info.layouts.items())}")
    print(f"golden files  {', '.join(info.golden_formats) or 'none'}")
    print("capabilities")
    for capability, meaning in CAPABILITIES.items():
        declared = info.capabilities[capability]
        reason = "" if declared.support is Support.FULL else f": {declared.reason}"
        print(f"  {capability:<16} {declared.support.value}{reason or f' ({meaning})'}")
        for layout, there in info.exceptions.items():
            if special := there.get(capability):
                print(f"  {'':<16} layout {layout}: {special.support.value}: {special.reason}")
    return DONE


def _said(hooks: PipelineHooks) -> tuple[PipelineInfo, str]:
    return hooks.info, hooks.distribution
