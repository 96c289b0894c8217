"""Llama and CLIP over prompts, as HunyuanVideo uses them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoFramepackPipeline
from transformers import CLIPTextModel, CLIPTokenizer, LlamaModel, PreTrainedTokenizerFast

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing
from vace_adapt_framepack.hunyuan.folders import loaded
from vace_adapt_framepack.hunyuan.parts import HunyuanPrompt

FOLDERS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")


class HunyuanPrompts:
    """Prompts to embeddings, with diffusers' own prompt template and cropping.

    Args:
        llama, words: language model and its tokenizer.
        clip, clip_words: CLIP's text model and its tokenizer.

    Attributes:
        width, pooled_width: of the language model's tokens, and of CLIP's vector.
    """

    def __init__(self, llama: Any, words: Any, clip: Any, clip_words: Any) -> None:
        self.width: int = llama.config.hidden_size
        self.pooled_width: int = clip.config.hidden_size
        self._encoders = (llama, clip)
        self._pipeline = HunyuanVideoFramepackPipeline(
            text_encoder=llama,
            tokenizer=words,
            text_encoder_2=clip,
            tokenizer_2=clip_words,
            transformer=None,
            vae=None,
            scheduler=FlowMatchEulerDiscreteScheduler(),
            image_encoder=None,
            feature_extractor=None,
        )

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> HunyuanPrompts:
        """Load a folder of HunyuanVideo.

        The language model's tokenizer is taken as ``tokenizer.json`` has it: transformers' class for Llama makes one
        of sentence pieces of it since version 5, which loses the spaces of Llama 3.

        Raises:
            CheckpointError: a part is not there, unreadable, or has fewer words than its tokenizer.
        """
        missing = [f"{part}/" for part in FOLDERS if not (folder / part).is_dir()]
        if missing:
            raise CheckpointError(f"{folder} has no {', '.join(missing)}: expected a folder of HunyuanVideo")
        llama = loaded(LlamaModel, folder / "text_encoder", dtype)
        clip = loaded(CLIPTextModel, folder / "text_encoder_2", dtype)
        words = _tokenizer(PreTrainedTokenizerFast, folder / "tokenizer", ("tokenizer.json",), llama)
        clip_words = _tokenizer(CLIPTokenizer, folder / "tokenizer_2", ("vocab.json", "merges.txt"), clip)
        return cls(llama.to(device).eval(), words, clip.to(device).eval(), clip_words)

    def to(self, device: torch.device, dtype: torch.dtype) -> HunyuanPrompts:
        """Move the encoders."""
        for encoder in self._encoders:
            encoder.to(device, dtype)
        return self

    def __call__(self, prompts: Sequence[str]) -> HunyuanPrompt:
        device = self._encoders[0].device
        tokens, pooled, mask = self._pipeline.encode_prompt(list(prompts), device=device)
        return HunyuanPrompt(tokens, mask.long(), pooled)


def _tokenizer(kind: Any, folder: Path, files: Sequence[str], model: Any) -> Any:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(f"{folder} has no {', '.join(missing)}")
    with refusing(CheckpointError, f"{folder} holds no tokenizer"):
        words = kind.from_pretrained(folder, local_files_only=True)
    if len(words) > model.config.vocab_size:
        raise CheckpointError(
            f"{folder} has a vocabulary of {len(words)}, its text encoder one of {model.config.vocab_size}"
        )
    return words
