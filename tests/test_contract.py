from __future__ import annotations

import pytest
from pydantic import ValidationError

from vace_adapt.contract import CAPABILITIES, Backbone, Capability, ChunkShapes, PipelineInfo, Support, WeightsSettings
from vace_adapt.errors import InputError
from vace_adapt.loading import load_plugin
from vace_adapt.time_map import TimeMap

BACKBONE = Backbone(dim=48, ffn_dim=96, heads=2, layers=4)


def test_control_channels_of_wan():
    assert BACKBONE.control_channels == 96


def test_info_survives_json():
    info = load_plugin("longlive").info
    assert PipelineInfo.model_validate_json(info.model_dump_json()) == info


def test_types_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        load_plugin("longlive").info.name = "other"


def test_capabilities_must_be_complete():
    info = load_plugin("longlive").info.model_dump()
    del info["capabilities"]["sink"]
    with pytest.raises(ValidationError, match=r"missing \['sink'\], unknown \[\]"):
        PipelineInfo.model_validate(info)
    info["capabilities"].update(sink={"support": "full"}, telepathy={"support": "full"})
    with pytest.raises(ValidationError, match=r"missing \[\], unknown \['telepathy'\]"):
        PipelineInfo.model_validate(info)
    assert len(CAPABILITIES) == len(load_plugin("longlive").info.capabilities)


def test_exceptions_are_of_known_layouts_and_capabilities():
    info = load_plugin("longlive").info.model_dump()
    info["exceptions"] = {"other": {"sink": {"support": "full"}}, "native": {"telepathy": {"support": "full"}}}
    with pytest.raises(ValidationError, match=r"unknown layouts \['other'\], unknown capabilities \['telepathy'\]"):
        PipelineInfo.model_validate(info)


def test_what_is_not_full_needs_a_reason():
    with pytest.raises(ValidationError, match="'unsupported' needs a reason"):
        Capability(support=Support.UNSUPPORTED)


def test_heads_must_divide_width():
    with pytest.raises(ValidationError, match="dim 50 is not a multiple of heads 4"):
        Backbone(dim=50, ffn_dim=1, heads=4, layers=1)


def test_shapes_of_a_stream():
    shapes = ChunkShapes.of(BACKBONE, TimeMap(3, 3), 480, 832)
    assert (shapes.height, shapes.width, shapes.grid, shapes.frame_tokens) == (60, 104, (30, 52), 1560)
    assert shapes.latent_shape(2, 0) == (2, 16, 3, 60, 104)


@pytest.mark.parametrize(
    ("height", "width", "text"),
    [
        (481, 832, "height 481 is not a positive multiple of 16: nearest are 480 and 496"),
        (480, 8, "width 8 is not a positive multiple of 16: nearest are 16 and 32"),
    ],
)
def test_sizes_that_do_not_divide(height, width, text):
    with pytest.raises(InputError, match=text):
        ChunkShapes.of(BACKBONE, TimeMap(3, 3), height, width)


def test_lora_mode_is_named():
    with pytest.raises(ValidationError, match="'merged' or 'live'"):
        WeightsSettings(lora_mode="maybe")
