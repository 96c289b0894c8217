"""Where the transformer blocks are, and how they are read and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vace_adapt.contract import BlockMap
from vace_adapt_conformance.check import check, expect, expect_bits
from vace_adapt_conformance.scripted import Run
from vace_adapt_conformance.subject import Subject


@check("blocks")
def every_block_is_located(subject: Subject) -> None:
    """Paths resolve, are distinct, and are as many as the backbone has blocks."""
    model, blocks = _located(subject)
    paths = [site.path for site in blocks.sites]
    for path in [*paths, blocks.patch_embedding]:
        expect(_resolves(model, path), f"{type(model).__name__} has no module at {path!r}")
    expect(len(set(paths)) == len(paths), f"a path is there twice: {paths}")
    layers = subject.pipe.parts.backbone.layers
    expect(len(paths) == layers, f"{len(paths)} blocks are located, the backbone has {layers}")


@check("blocks")
def blocks_run_in_order(subject: Subject) -> None:
    """Each located block runs once in a pass, in the order of the list."""
    model, blocks = _located(subject)
    ran: list[int] = []
    handles = [
        model.get_submodule(site.path).register_forward_pre_hook(lambda *_, i=index: ran.append(i))
        for index, site in enumerate(blocks.sites)
    ]
    try:
        run = Run(subject.pipe, (subject.height, subject.width))
        run.next()
    finally:
        for handle in handles:
            handle.remove()
    passes = len(run.asked)
    expect(passes > 0, "the loop asked for no hints, neither for a denoise step nor for a clean pass")
    expected = list(range(len(blocks.sites))) * (len(ran) // len(blocks.sites))
    expect(
        ran == expected, f"blocks ran in the order {ran[: len(blocks.sites)]}, expected {expected[: len(blocks.sites)]}"
    )


@check("blocks")
def locating_changes_nothing(subject: Subject) -> None:
    """`vace_locate_blocks` gives the same paths at every call and leaves every bit and hook of the model."""
    pipe = subject.fresh()
    model = pipe.parts.model
    before, hooks = _state(model), _hooks(model)
    found = [pipe.hooks.locate_blocks(model, pipe.parts.layout) for _ in range(2)]
    one, other = ([site.path for site in blocks.sites] for blocks in found)
    expect(one == other, f"paths came as {one}, then as {other}")
    for name, tensor in model.state_dict().items():
        expect_bits(tensor, before[name], f"locating blocks: {name}")
    expect(_hooks(model) == hooks, "locating blocks put hooks on the model")


@check("blocks")
def writing_back_is_the_identity(subject: Subject) -> None:
    """``write(out, hidden(out))`` is ``out``, bit for bit and of the same structure."""
    for index, (site, output) in enumerate(_outputs(subject)):
        again = site.write(output, site.hidden(output))
        expect(
            type(again) is type(output),
            f"block {index}: write gives {type(again).__name__}, the block {type(output).__name__}",
        )
        for came, expected in zip(_tensors(again), _tensors(output), strict=True):
            expect_bits(came, expected, f"block {index}: write(out, hidden(out))")


@check("blocks")
def what_is_written_is_read(subject: Subject) -> None:
    """``hidden(write(out, x))`` is ``x``, bit for bit."""
    for index, (site, output) in enumerate(_outputs(subject)):
        hidden = site.hidden(output)
        rows = torch.arange(hidden.shape[1], dtype=hidden.dtype)[None, :, None].expand_as(hidden)
        expect_bits(site.hidden(site.write(output, rows.contiguous())), rows, f"block {index}: hidden(write(out, x))")


@check("blocks")
def inputs_have_their_shapes(subject: Subject) -> None:
    """``read`` gives the chunk's tokens [B, L, D], modulation [B, 6, D] and text [B, T, D] at every block."""
    run = Run(subject.pipe, (subject.height, subject.width), watch=True)
    run.next()
    width = subject.pipe.parts.backbone.dim
    tokens = run.shapes.time.latents(0) // run.shapes.patch[0] * run.shapes.frame_tokens
    for index, inputs in run.passes[0].blocks:
        for name, came, expected in (
            ("hidden", inputs.hidden, (1, tokens, width)),
            ("modulation", inputs.modulation, (1, 6, width)),
            ("text", inputs.text, (1, inputs.text.shape[-2], width)),
        ):
            expect(
                tuple(came.shape) == expected, f"block {index}: {name} is {list(came.shape)}, expected {list(expected)}"
            )


@check("blocks")
def tokens_are_embedded_patches(subject: Subject) -> None:
    """What ``read`` calls hidden at block 0 is what the declared patch embedding makes of the chunk's latents."""
    pipe = subject.pipe
    run = Run(pipe, (subject.height, subject.width), watch=True)
    run.next()
    embedding: Any = pipe.parts.model.get_submodule(_located(subject)[1].patch_embedding)
    patches = F.conv3d(run.noise(0, 0), embedding.weight, embedding.bias, stride=pipe.parts.backbone.patch)
    expected = rearrange(patches, "b d f h w -> b (f h w) d")
    came = run.passes[0].hidden(0)
    expect(came.shape == expected.shape, f"hidden at block 0 is {list(came.shape)}, expected {list(expected.shape)}")
    apart = float((came - expected).abs().max())
    expect(apart < 1e-5, f"hidden at block 0 differs by {apart:.3g} from the embedded patches of noise draw 0")


def _located(subject: Subject) -> tuple[nn.Module, BlockMap]:
    pipe = subject.pipe
    return pipe.parts.model, pipe.hooks.locate_blocks(pipe.parts.model, pipe.parts.layout)


def _outputs(subject: Subject) -> list[tuple[Any, Any]]:
    """Every site with what its block gave in the first pass of a stream."""
    model, blocks = _located(subject)
    found: dict[int, Any] = {}

    def keep(index: int) -> Callable[..., None]:
        def kept(module: nn.Module, args: Any, output: Any) -> None:
            found.setdefault(index, output)

        return kept

    handles = [
        model.get_submodule(site.path).register_forward_hook(keep(index)) for index, site in enumerate(blocks.sites)
    ]
    try:
        Run(subject.pipe, (subject.height, subject.width)).next()
    finally:
        for handle in handles:
            handle.remove()
    return [(blocks.sites[index], output) for index, output in sorted(found.items())]


def _tensors(output: Any) -> list[Tensor]:
    """Every tensor in a nest of tuples, lists and dictionaries."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    return [tensor for item in output for tensor in _tensors(item)] if isinstance(output, (tuple, list)) else []


def _resolves(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
