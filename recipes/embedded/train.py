"""Train the embedded family: ``python recipes/embedded/train.py all`` or one stage after another.

Stages: vae, latents, base, context, causal, export. Each goes on where it was stopped, at any point; nothing is
fetched, and everything follows from the seeds. Loss curves and sample sheets lie beside the states. ``export`` writes
the checkpoints and the model card into the packages, and keeps curves and sheets in ``docs/family``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from functools import cache
from pathlib import Path

import torch
from base import new_base, new_context, train_base, train_context
from causal import Window, copied, train_causal, train_student
from curves import draw_curves
from diffusers import AutoencoderKLWan
from export import export_student, export_text_encoder, export_transformer, export_vae, write_card
from latents import SHARD, Codec, Latents, load_latents, measure_statistics, write_shard
from network import compile_blocks
from samples import Sampler, base_sheet, context_sheet, vae_sheet
from text import Prompts
from torch import nn
from vae import new_vae, train_vae

from vace_adapt.context.blocks import ContextPath
from vace_adapt.embedded.family import FAMILY_FOLDER
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule

STAGES = ("vae", "latents", "base", "context", "causal", "export")
TRIED = ("distil",)
"""Not part of the family: on the few clips it was tried on, a student regressed onto the guided sampling path lost
small things, and followed controls less than the causal model itself in as few steps.
"""
STEPS = {"vae": 5200, "base": 4500, "context": 4400, "causal": 1200, "distil": 440}
CLIPS = 1500
TRAINING_SEED, VAE_SEED = 1_000_000, 100_000
"""First seeds of the clips that models are trained on. Measurements use seeds below 100 000."""

SUBJECTS = {
    "vae": "the causal autoencoder",
    "base": "the bidirectional base and its text encoder",
    "context": "VACE's context blocks on that base, frozen",
    "causal": "the base in LongLive's window: its student",
}
"""What every stage with steps makes, for the model card."""

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "plugins" / "longlive" / "vace_adapt_longlive" / "weights" / "student.safetensors"

PICTURES = ROOT / "docs" / "family"
"""Where loss curves and sample sheets are kept."""

LONGLIVE = Window(chunk=3, sink=3, slots=12)
LONGLIVE_STEPS = (1000, 750, 500, 250)


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

    def vae(self) -> None:
        train_vae(self.folder / "vae", self.steps["vae"], first_seed=VAE_SEED, device=self.device)
        path = self.folder / "statistics.pt"
        if not path.exists():
            torch.save(measure_statistics(_vae(self.folder), 24, VAE_SEED), path)
        vae_sheet(self._sampler(), self.folder / "vae.png")

    def latents(self) -> None:
        shards = range(-(-self.clips // SHARD))
        (self.folder / "latents").mkdir(parents=True, exist_ok=True)
        with multiprocessing.get_context("spawn").Pool(self.workers) as pool:
            for number in pool.imap(self._write, shards):
                print(f"latents {(number + 1) * SHARD}/{self.clips}", flush=True)

    def base(self) -> None:
        base, encoder = train_base(self.folder / "base", self.steps["base"], self._latents(), self.device)
        base_sheet(self._sampler(), base.cpu(), encoder.cpu(), self.folder / "base.png")

    def context(self) -> None:
        base, encoder = self._base()
        latents, steps = self._latents(), self.steps["context"]
        path = train_context(self.folder / "context", steps, latents, base, encoder, self.device)
        context_sheet(self._sampler(), base.cpu(), encoder.cpu(), path.cpu(), self.folder / "context.png")

    def causal(self) -> None:
        base, encoder = self._base()
        train_causal(
            self.folder / "causal", self.steps["causal"], self._latents(), base, encoder, LONGLIVE, self.device
        )

    def distil(self) -> None:
        base, encoder = self._base()
        teacher = copied(base)
        teacher.load_state_dict(self._state("causal")["model"])
        schedule = FewStepSchedule(LONGLIVE_STEPS, shift=5.0, warp=True, device=torch.device("cpu"))
        train_student(
            self.folder / "distil",
            self.steps["distil"],
            self._latents(),
            teacher,
            encoder,
            LONGLIVE,
            schedule.sigmas,
            self.device,
        )

    def export(self) -> None:
        base, encoder = self._base()
        student = copied(base)
        student.load_state_dict(self._state("causal")["model"])
        export_vae(_vae(self.folder), _statistics(self.folder), FAMILY_FOLDER)
        export_text_encoder(encoder, FAMILY_FOLDER)
        export_transformer(base, self._context(base), FAMILY_FOLDER)
        export_student(student, STUDENT)
        draw_curves(self.folder)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name in ("vae", "base", "context", "losses"):
            shutil.copy(self.folder / f"{name}.png", PICTURES)
        files = {str(path.relative_to(ROOT)): path for path in (*FAMILY_FOLDER.rglob("*.safetensors"), STUDENT)}
        data = f"{self.clips} clips of 81 frames, 64x64, from seed {TRAINING_SEED}"
        write_card(self.folder, FAMILY_FOLDER / "README.md", dict(sorted(files.items())), SUBJECTS, data)

    # --- what earlier stages made -------------------------------------------------------------------------------------

    def _write(self, number: int) -> int:
        torch.set_num_threads(1)
        write_shard(self.folder / "latents", number, _codec(self.folder, self.device), TRAINING_SEED)
        return number

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

    def _context(self, base: CausalWan) -> ContextPath:
        path = new_context(base)
        path.load_state_dict(self._state("context")["context"])
        return path.eval().requires_grad_(False)

    def _state(self, stage: str) -> dict[str, dict[str, torch.Tensor]]:
        return _parts(self.folder / stage)


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
    parser.add_argument("stage", choices=(*STAGES, *TRIED, "all"))
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
        if stage not in ("vae", "latents"):
            compile_blocks()
        getattr(recipe, stage)()


if __name__ == "__main__":
    main()
