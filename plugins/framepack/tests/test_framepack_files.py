"""Backend hunyuan from folders in their released layouts, and everything about them that is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo
from framepack_files import SIZES, save_hunyuan, settings_of, weights_of
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import SiglipImageProcessorPil

from vace_adapt import load_pipeline
from vace_adapt.config.read import settings_from
from vace_adapt.errors import CheckpointError
from vace_adapt_framepack.hunyuan.context import HunyuanContext
from vace_adapt_framepack.hunyuan.prompts import HunyuanPrompts


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Where the files are, and what they are of."""
    folder = tmp_path_factory.mktemp("hunyuan")
    return folder, save_hunyuan(folder)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to be damaged."""
    shutil.copytree(saved[0], tmp_path / "files")
    return tmp_path / "files"


def load(folder, weights=None, *, model=None, layout=None, **settings):
    return load_pipeline(
        "framepack",
        weights={**weights_of(folder), **(weights or {})},
        settings={**settings_of(folder), **settings},
        model=model,
        layout=layout,
        device="cpu",
        dtype="float32",
    )


def section(pipe):
    with pipe.stream("a red ball", height=32, width=32, seed=0) as stream:
        return next(stream).latents


def test_the_parts_are_those_that_were_saved(saved):
    folder, parts = saved
    pipe = load(folder)
    for name in ("model", "vae"):
        came, expected = (getattr(p, name).state_dict() for p in (pipe.parts, parts))
        assert came.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in came.items())
    assert (pipe.parts.steps, pipe.parts.hinted_blocks, pipe.parts.layout) == (1, (), "hunyuan")
    pixels = torch.rand(1, 3, 40, 30) * 2 - 1
    assert torch.equal(pipe.parts.image_encoder(pixels), parts.image_encoder(pixels))
    made = section(pipe)
    assert torch.isfinite(made).all()
    live = load(folder, {"base": None}, model=parts.model, layout="hunyuan")
    assert float((section(live) - made).abs().max()) < 1e-5


def test_a_run_from_the_command_line_takes_the_same_words(saved):
    folder, _ = saved
    sizes = ", ".join(
        f"{name}: {SIZES['backbone'][name]}" for name in ("dim", "ffn_dim", "heads", "layers", "text_dim")
    )
    pipeline = ["pipeline=framepack", "pipeline.backend=hunyuan", "pipeline.steps=1", f"pipeline.backbone={{{sizes}}}"]
    words = [f"weights.{name}={path}" for name, path in weights_of(folder).items()]
    asked = settings_from([*pipeline, *words, f"pipeline.image_encoder={folder / 'redux'}", "task=text", "frames=9"])
    pipe = load_pipeline("framepack", weights=asked.weights, settings=asked.pipeline, device="cpu", dtype="float32")
    assert torch.equal(section(pipe), section(load(folder)))


def test_context_blocks_come_with_the_weights(saved, tmp_path):
    folder, parts = saved
    context = HunyuanContext.beside(parts.model, (0, 3))
    save_file(context.state_dict(), tmp_path / "context.safetensors")
    assert load(folder, {"control": str(tmp_path / "context.safetensors")}).parts.hinted_blocks == (0, 3)


def test_prompts_are_read_as_the_tokenizers_files_say(saved):
    """Of transformers 5, the class named in the released tokenizer's config would lose Llama 3's spaces."""
    folder, _ = saved
    prompts = load(folder).parts.text_encoder
    text = "a red ball<|eot_id|> in 2026"
    expected = Tokenizer.from_file(str(folder / "hunyuan" / "tokenizer" / "tokenizer.json")).encode(text).ids
    assert prompts._pipeline.tokenizer(text).input_ids == expected
    words = json.loads((folder / "hunyuan" / "tokenizer_2" / "vocab.json").read_text())
    found = prompts._pipeline.tokenizer_2("Red a").input_ids
    assert found == [words[word] for word in ("<|startoftext|>", "red</w>", "a</w>", "<|endoftext|>")]


def test_prompts_become_what_diffusers_makes_of_them(saved):
    """Behind the template; the prompt's own tokens first, then padding that is masked."""
    folder, _ = saved
    prompts = HunyuanPrompts.load(folder / "hunyuan", torch.device("cpu"), torch.float32)
    one, two = prompts(["a red ball"]), prompts(["a red ball runs", "a red ball"])
    assert one.tokens.shape == (1, 256, prompts.width)
    assert one.pooled.shape == (1, prompts.pooled_width)
    own = int(one.mask.sum())
    assert one.mask[0].tolist() == [1] * own + [0] * (256 - own)
    assert own == len("a red ball") - len("re") - len("d") - len(" b") + 3, (
        "a, space, red, space and b, all, and the end"
    )
    assert torch.allclose(two.tokens[1:, :own], one.tokens[:, :own], atol=1e-5)
    assert float((two.tokens[0, :own] - one.tokens[0, :own]).abs().max()) > 1e-3


def test_the_picture_is_seen_as_siglips_own_processor_shows_it(saved):
    folder, _ = saved
    processor = SiglipImageProcessorPil.from_pretrained(folder / "redux" / "feature_extractor")
    shade = torch.linspace(0, 255, 64).expand(48, 64)
    image = torch.stack([shade, 255 - shade, shade / 2], dim=-1).to(torch.uint8)
    seen = []
    encoder = load(folder).parts.image_encoder
    encoder._model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(image.permute(2, 0, 1)[None].float() / 127.5 - 1)
    expected = processor(Image.fromarray(image.numpy()), return_tensors="pt").pixel_values
    assert float((seen[0] - expected).abs().max()) < 2 / 127.5


def without(folder, *names):
    """A model's file without some tensors; the model has no shards from then on."""
    state = {}
    for file in sorted(folder.glob("*.safetensors")):
        state.update(load_file(file))
        file.unlink()
    for file in folder.glob("*.index.json"):
        file.unlink()
    kept = {name: tensor for name, tensor in state.items() if name not in names}
    save_file(kept, folder / "diffusion_pytorch_model.safetensors")


def test_a_tensor_that_is_missing_is_not_made_up(folder):
    without(folder / "framepack", "clean_x_embedder.proj_4x.bias")
    with pytest.raises(
        CheckpointError, match=r"framepack is no HunyuanVideoFramepack\w+: 1 tensors missing .*proj_4x.bias"
    ):
        load(folder)


def configured(file, **changed):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"has_clean_x_embedder": False}, "is a HunyuanVideo without FramePack's packing"),
        ({"num_attention_heads": 4}, "has width 64, the settings say 32"),
        ({"num_single_layers": 4}, "has number of blocks 6, the settings say 5"),
    ],
)
def test_another_model_is_refused_by_its_config(folder, changed, text):
    configured(folder / "framepack" / "config.json", **changed)
    with pytest.raises(CheckpointError, match=text):
        load(folder)


def test_a_missing_shard_is_named(folder):
    sorted((folder / "framepack").glob("*.safetensors"))[1].unlink()
    with pytest.raises(CheckpointError, match=r"framepack is no HunyuanVideo.*00002-of-"):
        load(folder)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
def test_a_missing_text_part_is_named(folder, part):
    shutil.rmtree(folder / "hunyuan" / part)
    with pytest.raises(CheckpointError, match=rf"hunyuan has no {part}/: expected a folder of HunyuanVideo"):
        load(folder)


def test_missing_words_are_named(folder):
    (folder / "hunyuan" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer has no tokenizer.json"):
        load(folder)


def test_words_without_an_embedding_are_refused(folder):
    shutil.copy(folder / "hunyuan" / "tokenizer" / "tokenizer.json", folder / "tokenizer.json")
    words = json.loads((folder / "tokenizer.json").read_text())
    words["added_tokens"].append({**words["added_tokens"][-1], "id": 262 + 3, "content": "<more>"})
    (folder / "hunyuan" / "tokenizer" / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(CheckpointError, match=r"tokenizer has a vocabulary of \d+, its text encoder one of \d+"):
        load(folder)


def test_another_vae_is_refused(folder):
    shutil.rmtree(folder / "hunyuan" / "vae")
    other = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4,) * 4, layers_per_block=1, norm_num_groups=2
    )
    other.save_pretrained(folder / "hunyuan" / "vae")
    with pytest.raises(CheckpointError, match=r"needs HunyuanVideo's VAE .* not one of \(4, 4, 8\)"):
        load(folder)


def test_parts_in_the_wrong_place_are_refused(folder):
    redux, hunyuan = str(folder / "redux"), str(folder / "hunyuan")
    with pytest.raises(CheckpointError, match="redux is no AutoencoderKLHunyuanVideo"):
        load(folder, {"vae": redux})
    with pytest.raises(CheckpointError, match="hunyuan is no SiglipVisionModel"):
        load(folder, image_encoder=hunyuan)
    with pytest.raises(CheckpointError, match=r"text_encoder_2 is no SiglipVisionModel: \d+ tensors missing|no Siglip"):
        load(folder, image_encoder=str(folder / "hunyuan" / "text_encoder_2"))
    with pytest.raises(CheckpointError, match="config.json is a file: expected a folder"):
        load(folder, {"vae": str(folder / "framepack" / "config.json")})
    with pytest.raises(CheckpointError, match="neither a path nor in the local hub cache"):
        load(folder, {"vae": "no/where"})


@pytest.mark.parametrize(("part", "kind"), [("text_encoder", "LlamaModel"), ("text_encoder_2", "CLIPTextModel")])
def test_text_encoders_must_be_whole(folder, part, kind):
    file = folder / "hunyuan" / part / "model.safetensors"
    state = load_file(file)
    gone = max(state)
    save_file({name: tensor for name, tensor in state.items() if name != gone}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{part} is no {kind}: 1 tensors missing"):
        load(folder)


def test_widths_must_fit_the_base_model(saved, folder):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    wide = SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    SiglipVisionModel(wide).save_pretrained(folder / "redux" / "image_encoder")
    with pytest.raises(CheckpointError, match="image_encoder is of width 16, the base model takes width 12"):
        load(folder)


@pytest.mark.parametrize("part", ["base", "vae", "text_encoder"])
def test_what_is_not_given_is_named(saved, part):
    with pytest.raises(CheckpointError, match=rf"weights.{part} is not given: FramePack on HunyuanVideo needs"):
        load(saved[0], {part: None})


def test_more_that_cannot_be_given(saved):
    folder, parts = saved
    with pytest.raises(CheckpointError, match="pipeline.image_encoder is not given"):
        load(folder, image_encoder=None)
    with pytest.raises(CheckpointError, match="FramePack comes without a LoRA"):
        load(folder, {"lora": "x.pt"})
    with pytest.raises(CheckpointError, match="a live model brings its own weights"):
        load(folder, model=parts.model, layout="hunyuan")
    with pytest.raises(CheckpointError, match="a Linear, does not have layout 'hunyuan'"):
        load(folder, {"base": None}, model=torch.nn.Linear(1, 1), layout="hunyuan")
