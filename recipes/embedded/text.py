"""The tiny text encoder and its tokenizer: one token for each word of the world's captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from vace_adapt.embedded.family import FAMILY
from vace_adapt.embedded.world.captions import WORDS


def word_tokenizer() -> PreTrainedTokenizerFast:
    """0 padding, 1 end of text, 2 any word that no caption has; case and punctuation do not matter."""
    vocabulary = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", *sorted(set(WORDS))))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\w\s]"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def new_text_encoder(words: int) -> UMT5EncoderModel:
    """Two layers, fresh weights."""
    config = UMT5Config(
        vocab_size=words, d_model=FAMILY.text_dim, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return UMT5EncoderModel(config)


FULL, PLAIN, NO_CAPTION = range(3)
"""Captions of a clip: with appearance, without it, and nothing."""


class Prompts:
    """Captions as token numbers, made once.

    Args:
        captions: full, and without appearance, of every clip.
    """

    def __init__(self, captions: Sequence[tuple[str, str]]) -> None:
        tokenizer = word_tokenizer()
        texts = [text for pair in captions for text in (*pair, "")]
        tokens = tokenizer(
            texts, padding="max_length", truncation=True, max_length=FAMILY.text_len, return_tensors="pt"
        )
        self.words = len(tokenizer)
        self._ids = tokens.input_ids.view(len(captions), 3, -1)
        self._masks = tokens.attention_mask.view(len(captions), 3, -1)

    def embed(self, encoder: nn.Module, clips: Tensor, kinds: Tensor) -> Tensor:
        """Embeddings [B, N, text_dim] of clips [B], each with a caption of a kind (`FULL`, ...) [B]."""
        device = next(encoder.parameters()).device
        ids, mask = self._ids[clips, kinds].to(device), self._masks[clips, kinds].to(device)
        embedded: Tensor = encoder(ids, mask).last_hidden_state
        return embedded * mask.unsqueeze(-1)


def draw_captions(count: int, shares: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    """Which caption each of a batch gets, with these shares of full, plain and none: int64 [count]."""
    return torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator)
