"""Train the embedded family: ``python recipes/embedded/train.py all`` or one stage after another.

Stages: vae, latents, sections, portraits, edits, base, context, references, likeness, resemblance, settling, a
causal_NAME for each kind of memory, a distil_NAME for each pipeline that gets a student of few steps, export. Each goes
on where it was stopped, at any point; nothing is fetched, and everything follows from the seeds. Loss curves and sample
sheets lie beside the states.
``export`` writes the checkpoints and the model card into the packages, and keeps curves and sheets in ``docs/family``.

A further pipeline needs its window in ``pipelines.py``, its steps below, and some hours: ``shipped`` makes the states
of vae, base and the context blocks from the packages; then latents, causal_NAME, distil_NAME, and student_NAME, which
writes its file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from base import new_base, new_context, train_base, train_context
from batches import EVERYTHING, KEPT, LIKENESS, LOOKS
from causal import copied, train_causal
from conditions import EDITS
from curves import draw_curves
from diffusers import AutoencoderKLWan
from distil import train_student
from draws import Draw, in_turn, mixed, portrayed
from export import between, export_student, export_text_encoder, export_transformer, export_vae, write_card
from latents import Codec, Latents, encode_clips, load_latents, measure_statistics
from network import compile_blocks
from packed import packing, train_packed
from pipelines import FRAMEPACK, students
from portraits import encode_portraits, load_portraits
from samples import Sampler, base_sheet, context_sheet, vae_sheet
from sections import encode_sections, load_sections
from shards import SHARD, write_shard
from shipped import begin_at
from text import Prompts
from torch import nn
from training import save_parts
from vae import new_vae, train_vae

from vace_adapt.context.blocks import ContextPath
from vace_adapt.embedded.family import FAMILY, FAMILY_FOLDER
from vace_adapt.models.causal_wan import CausalWan

STUDENTS = students()
PIPELINES = (*STUDENTS, "framepack")
"""Everything that gets a student."""

STEPS = {
    "vae": 5200,
    "base": 4500,
    "context": 4400,
    "references": 2400,
    "likeness": 3000,
    "resemblance": 3000,
    "settling": 1050,
    "causal_longlive": 1200,
    "causal_streamdiffusion": 1200,
    "causal_framepack": 1000,
    "distil_longlive": 400,
    "distil_memflow": 400,
    "distil_streamdiffusion": 400,
}
ENCODED = ("latents", "sections", "portraits", "edits")
STAGES = ("vae", *ENCODED, *list(STEPS)[1:], "export")
ALONE = ("shipped", *(f"student_{name}" for name in PIPELINES))
"""Stages that training everything does not need."""

CLIPS, LONG_CLIPS, EDITED_CLIPS = 1500, 400, 400
TRAINING_SEED, PORTRAIT_SEED, EDIT_SEED, VAE_SEED = 1_000_000, 2_000_000, 3_000_000, 100_000
"""First seeds of the clips that models are trained on. Measurements use seeds below 100 000."""

SETTLING_RATE = 0.5
"""Of the learning rates: what was learned before is to stay."""

SETTLED_SHARE = 0.6
"""How far from resemblance towards settling the context blocks are shipped: further, key frames are kept better and
references less. Chosen on clips that are neither trained on nor measured."""

SUBJECTS = {
    "vae": "the causal autoencoder",
    "base": "the bidirectional base and its text encoder",
    "context": "VACE's context blocks on that base, frozen",
    "references": "the same blocks, given references above all",
    "likeness": "the same, with more things in a step",
    "resemblance": "the same, on portraits; the error counts double where the thing is",
    "settling": "the same, on areas and key frames beside portraits, at half the rates; the error counts double there; "
    f"ships {SETTLED_SHARE:.0%} of the way",
    "causal_longlive": "the base in the window of LongLive and MemFlow",
    "causal_streamdiffusion": "the base in the window of StreamDiffusionV2",
    "causal_framepack": "the base beside FramePack's packed history: the student of framepack",
    **{f"distil_{name}": f"that in few steps: the student of {name}" for name in STUDENTS},
}
"""What every stage with steps makes, for the model card."""

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "family"
"""Where loss curves and sample sheets are kept."""


class Recipe:
    """The stages over one folder.

    Args:
        folder: where every stage keeps its state.
        device: ``cpu`` or ``cuda``.
        steps: of each stage.
        clips: encoded.
        workers: processes that encode.
    """

    def __init__(self, folder: Path, device: str, steps: dict[str, int], clips: int, workers: int) -> None:
        self.folder, self.device, self.steps, self.clips, self.workers = folder, device, steps, clips, workers

    def run(self, stage: str) -> None:
        """One of `STAGES`."""
        kind, _, name = stage.partition("_")
        getattr(self, kind)(*([name] if name else []))

    def shipped(self) -> None:
        begin_at(FAMILY_FOLDER, self.folder)

    def vae(self) -> None:
        train_vae(self.folder / "vae", self.steps["vae"], first_seed=VAE_SEED, device=self.device)
        path = self.folder / "statistics.pt"
        if not path.exists():
            torch.save(measure_statistics(_vae(self.folder), 24, VAE_SEED), path)
        vae_sheet(self._sampler(), self.folder / "vae.png")

    def latents(self) -> None:
        self._encode("latents", encode_clips, TRAINING_SEED, self.clips)

    def sections(self) -> None:
        encode = partial(encode_sections, latents=FRAMEPACK.settings.chunk_latents)
        self._encode("sections", encode, TRAINING_SEED, min(self.clips, LONG_CLIPS))

    def portraits(self) -> None:
        self._encode("portraits", encode_portraits, PORTRAIT_SEED, self.clips)

    def edits(self) -> None:
        self._encode("edits", partial(encode_clips, families=EDITS), EDIT_SEED, min(self.clips, EDITED_CLIPS))

    def base(self) -> None:
        base, encoder = train_base(self.folder / "base", self.steps["base"], self._latents(), self.device)
        base_sheet(self._sampler(), base.cpu(), encoder.cpu(), self.folder / "base.png")

    def context(self) -> None:
        base, encoder = self._base()
        self._train_context("context", 3, base, new_context(base), mixed(self._latents(), EVERYTHING, encoder))

    def references(self) -> None:
        base, encoder = self._base()
        draw = mixed(self._latents(), LOOKS, encoder)
        self._train_context("references", 6, base, self._context(base, "context"), draw)

    def likeness(self) -> None:
        base, encoder = self._base()
        draw = mixed(self._latents(), LIKENESS, encoder)
        self._train_context("likeness", 7, base, self._context(base, "references"), draw)

    def resemblance(self) -> None:
        base, encoder = self._base()
        latents = self._latents()
        one = portrayed(load_portraits(self.folder / "portraits"), latents, encoder)
        draw = in_turn(one, one, mixed(latents, EVERYTHING, encoder))
        self._train_context("resemblance", 8, base, self._context(base, "likeness"), draw)

    def settling(self) -> None:
        base, encoder = self._base()
        edits = load_latents(self.folder / "edits")
        one = portrayed(load_portraits(self.folder / "portraits"), edits, encoder)
        draw = in_turn(mixed(edits, KEPT, encoder), one)
        start = self._context(base, "resemblance")
        end = self._train_context("settling", 9, base, start, draw, SETTLING_RATE).cpu()
        path = self._context(base, "resemblance")
        path.load_state_dict(between(path, end, SETTLED_SHARE))
        save_parts(self.folder / "settled", {"context": path.state_dict()})
        context_sheet(self._sampler(), base.cpu(), encoder.cpu(), path, self.folder / "context.png")

    def causal(self, name: str) -> None:
        base, encoder = self._base()
        folder, steps = self._run(f"causal_{name}")
        if name == "framepack":
            sections = load_sections(self.folder / "sections")
            train_packed(folder, steps, sections, base, encoder, FRAMEPACK.settings, self.device, fast=True)
            return
        train_causal(folder, steps, self._latents(), base, encoder, STUDENTS[name].window, self.device)

    def distil(self, name: str) -> None:
        base, encoder = self._base()
        student = STUDENTS[name]
        start = self._trained(base, f"causal_{student.causal}", "model")
        teacher = start if student.window.clean else base
        folder, steps = self._run(f"distil_{name}")
        window, sigmas = student.window, student.sigmas
        train_student(folder, steps, self._latents(), teacher, start, encoder, window, sigmas, self.device)

    def student(self, name: str) -> None:
        base, _ = self._base()
        if name != "framepack":
            student, trained = STUDENTS[name], self._trained(base, f"distil_{name}", "student")
            export_student(base, trained, student.share, student.file)
            return
        pooled, packed = packing(base, FAMILY), packing(base, FAMILY)
        packed.load_state_dict(self._state("causal_framepack")["model"])
        export_student(pooled, packed, FRAMEPACK.share, FRAMEPACK.file)

    def export(self) -> None:
        base, encoder = self._base()
        export_vae(_vae(self.folder), _statistics(self.folder), FAMILY_FOLDER)
        export_text_encoder(encoder, FAMILY_FOLDER)
        export_transformer(base, self._context(base), FAMILY_FOLDER)
        for name in PIPELINES:
            self.student(name)
        draw_curves(self.folder)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name in ("vae", "base", "context", "losses"):
            shutil.copy(self.folder / f"{name}.png", PICTURES)
        made = (*STUDENTS.values(), FRAMEPACK)
        shipped = (*FAMILY_FOLDER.rglob("*.safetensors"), *(student.file for student in made))
        files = {str(path.relative_to(ROOT)): path for path in shipped}
        data = (
            f"{self.clips} clips of 81 frames, 64x64, from seed {TRAINING_SEED}; portraits: as many of one thing, from "
            f"seed {PORTRAIT_SEED}; edits: {EDITED_CLIPS} from seed {EDIT_SEED}; causal_framepack: {LONG_CLIPS} longer"
        )
        write_card(self.folder, FAMILY_FOLDER / "README.md", dict(sorted(files.items())), SUBJECTS, data)

    # --- what earlier stages made -------------------------------------------------------------------------------------

    def _run(self, stage: str) -> tuple[Path, int]:
        return self.folder / stage, self.steps[stage]

    def _encode(self, name: str, encode: Callable[..., Any], first_seed: int, clips: int) -> None:
        """Shards of clips, each in a process."""
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        write = partial(_write, self.folder, self.device, name, encode, first_seed)
        with multiprocessing.get_context("spawn").Pool(self.workers) as pool:
            for number in pool.imap(write, range(-(-clips // SHARD))):
                print(f"{name} {(number + 1) * SHARD}/{clips}", flush=True)

    def _sampler(self) -> Sampler:
        return Sampler(_vae(self.folder), _statistics(self.folder))

    def _latents(self) -> Latents:
        return load_latents(self.folder / "latents")

    def _base(self) -> tuple[CausalWan, nn.Module]:
        base, encoder = new_base(Prompts([("", "")]).words)
        state = self._state("base")
        base.load_state_dict(state["base"])
        encoder.load_state_dict(state["text"])
        return base.eval().requires_grad_(False), encoder.eval().requires_grad_(False)

    def _train_context(
        self, stage: str, seed: int, base: CausalWan, path: ContextPath, draw: Draw, rate: float = 1.0
    ) -> ContextPath:
        folder, steps = self._run(stage)
        return train_context(folder, steps, seed, draw, base, path, self.device, rate)

    def _context(self, base: CausalWan, stage: str = "settled") -> ContextPath:
        path = new_context(base)
        path.load_state_dict(self._state(stage)["context"])
        return path.eval().requires_grad_(False)

    def _trained(self, base: CausalWan, stage: str, part: str) -> CausalWan:
        model = copied(base)
        model.load_state_dict(self._state(stage)[part])
        return model.eval().requires_grad_(False)

    def _state(self, stage: str) -> dict[str, dict[str, torch.Tensor]]:
        return _parts(self.folder / stage)


def _write(folder: Path, device: str, name: str, encode: Callable[..., Any], first_seed: int, number: int) -> int:
    """One shard of a stage, in a process of its own."""
    torch.set_num_threads(1)
    write_shard(folder / name, number, partial(encode, _codec(folder, device)), first_seed)
    return number


@cache
def _codec(folder: Path, device: str) -> Codec:
    """One for each process, since it is compiled."""
    return Codec(_vae(folder), _statistics(folder), device, fast=True)


def _statistics(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    mean, deviation = torch.load(folder / "statistics.pt", weights_only=True)
    return mean, deviation


def _vae(folder: Path) -> AutoencoderKLWan:
    vae = new_vae()
    vae.load_state_dict(_parts(folder / "vae")["vae"])
    return vae.eval().requires_grad_(False)


def _parts(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """What a stage has made so far."""
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    parts: dict[str, dict[str, torch.Tensor]] = state["parts"]
    return parts


def main() -> None:
    """Run the stages that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, *ALONE, "all"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/family"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--steps", type=int, help="of the one stage that is named")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    steps = STEPS if given.steps is None else {**STEPS, given.stage: given.steps}
    recipe = Recipe(given.folder, given.device, steps, given.clips, given.threads)
    for stage in STAGES if given.stage == "all" else (given.stage,):
        if stage not in ("vae", *ENCODED, *ALONE):
            compile_blocks()
        recipe.run(stage)


if __name__ == "__main__":
    main()
