"""One token for each word that captions have."""

from __future__ import annotations

import pytest
import text
import torch
from text import Prompts, draw_captions, new_text_encoder, word_tokenizer

from vace_adapt.embedded.family import FAMILY
from vace_adapt.embedded.world.captions import WORDS, caption
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.models.text_encoder import Umt5TextEncoder

TOKENIZER = word_tokenizer()
END, UNKNOWN = 1, 2


def every_word_has_a_number_of_its_own():
    found = {word: word_tokenizer()(word).input_ids for word in WORDS}
    assert all(len(numbers) == 2 and numbers[1] == END for numbers in found.values())
    numbers = [numbers[0] for numbers in found.values()]
    assert len(set(numbers)) == len(WORDS)
    assert min(numbers) > UNKNOWN


def test_every_word_has_a_number_of_its_own(monkeypatch):
    every_word_has_a_number_of_its_own()
    assert len(TOKENIZER) == len(WORDS) + 3
    monkeypatch.setattr(text, "WORDS", WORDS[1:])
    with pytest.raises(AssertionError):
        every_word_has_a_number_of_its_own()


@pytest.mark.parametrize("seed", range(10))
def test_captions_are_known_word_by_word(seed):
    said = caption(draw_scene(seed, 1))
    numbers = TOKENIZER(said).input_ids
    assert len(numbers) == len(said.split()) + 1 <= FAMILY.text_len
    assert UNKNOWN not in numbers
    assert TOKENIZER.decode(numbers[:-1]) == said


def test_other_words_are_unknown():
    assert TOKENIZER("a purple ball").input_ids == [
        *TOKENIZER("a").input_ids[:1],
        UNKNOWN,
        *TOKENIZER("ball").input_ids,
    ]
    assert TOKENIZER("").input_ids == [END]


@pytest.mark.parametrize("written", ["A Red BALL", "a red, ball", " a  red ball ", "a red ball.", '"a red ball"!'])
def test_case_and_punctuation_do_not_matter(written):
    assert TOKENIZER(written).input_ids == TOKENIZER("a red ball").input_ids


# --- embeddings ---------------------------------------------------------------------------------------------------

CAPTIONS = [(caption(draw_scene(seed, 1)), caption(draw_scene(seed, 1), appearance=False)) for seed in range(3)]


@pytest.fixture(scope="module")
def prompts():
    return Prompts(CAPTIONS)


@pytest.fixture(scope="module")
def encoder(prompts):
    torch.manual_seed(0)
    return new_text_encoder(prompts.words).eval()


def test_embeddings_are_those_of_the_product(prompts, encoder):
    """Full captions, captions without appearance and none, as a pipeline would embed the same words."""
    clips, kinds = torch.tensor([2, 0, 1, 2, 0]), torch.tensor([0, 1, 2, 1, 0])
    made = prompts.embed(encoder, clips, kinds)
    assert made.shape == (5, FAMILY.text_len, FAMILY.text_dim)
    said = [(*CAPTIONS[clip], "")[kind] for clip, kind in zip(clips.tolist(), kinds.tolist(), strict=True)]
    product = Umt5TextEncoder(encoder, TOKENIZER, FAMILY.text_len)
    assert torch.allclose(made, product(said), atol=1e-5)
    assert not torch.allclose(made, product(said[::-1]), atol=1e-2)


def test_padding_is_zero(prompts, encoder):
    """It is not what the encoder makes of it."""
    assert encoder(prompts._ids[:1, 0], prompts._masks[:1, 0]).last_hidden_state[0, -1].any()
    made = prompts.embed(encoder, torch.tensor([0, 0]), torch.tensor([0, 2]))
    for row, said in zip(made, (CAPTIONS[0][0], ""), strict=True):
        length = len(said.split()) + 1
        assert row[:length].abs().sum(dim=1).min() > 0
        assert not row[length:].any()


def test_the_encoder_fits_the_tokenizer(prompts, encoder):
    assert prompts.words == len(TOKENIZER) == encoder.config.vocab_size


def test_captions_are_drawn_by_their_shares():
    generator = torch.Generator().manual_seed(0)
    drawn = draw_captions(4000, (0.6, 0.3, 0.1), generator)
    assert drawn.dtype == torch.int64
    assert torch.allclose(drawn.bincount() / 4000, torch.tensor([0.6, 0.3, 0.1]), atol=0.03)
    assert (draw_captions(20, (0.0, 1.0, 0.0), generator) == 1).all()
