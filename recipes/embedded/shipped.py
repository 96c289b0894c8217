"""Stage ``shipped``: begin at what the packages have, where training all of it anew would take days.

The states of the earlier stages are made of the files that ``export`` wrote, so they are in half precision, and have
neither optimizer nor losses: other stages can begin from them, they themselves cannot go on.
"""

from __future__ import annotations

from pathlib import Path

import torch
from base import new_base, new_context
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file
from text import Prompts
from training import save_parts

MADE = ("vae", "base", "settled")
"""States that stages begin from."""


def begin_at(source: Path, folder: Path) -> None:
    """Write the states of `MADE`, and the statistics of the latents.

    Args:
        source: a folder that ``export`` wrote.
        folder: of the recipe; one that holds any of these states is refused.
    """
    there = [name for name in MADE if (folder / name / "state.pt").exists()]
    if there:
        raise SystemExit(f"{folder} holds {', '.join(there)} already: give --folder one that does not")
    vae = AutoencoderKLWan.from_pretrained(source / "vae").float()
    words = load_file(source / "text_encoder" / "model.safetensors")
    weights = load_file(source / "transformer" / "diffusion_pytorch_model.safetensors")
    base, encoder = new_base(Prompts([("", "")]).words)
    path = new_context(base)
    encoder.load_state_dict({**words, "encoder.embed_tokens.weight": words["shared.weight"]})
    for module in (base, path):
        module.load_state_dict({name: weights[name] for name in module.state_dict()})
    save_parts(folder / "vae", {"vae": vae.state_dict()})
    save_parts(folder / "base", {"base": base.state_dict(), "text": encoder.state_dict()})
    save_parts(folder / "settled", {"context": path.state_dict()})
    torch.save((torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)), folder / "statistics.pt")
