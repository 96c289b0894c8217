"""The numbers of guandeh17/Self-Forcing configs/self_forcing_dmd.yaml."""

from vace_adapt.contract import PipelineSettings


class Settings(PipelineSettings):
    """The ``pipeline:`` section; its defaults are those of conf/pipeline/selfforcing.yaml."""

    denoising_steps: tuple[float, ...] = (1000, 750, 500, 250)
    warp_denoising_steps: bool = True
    timestep_shift: float = 5.0
    chunk_latents: int = 3
    window: int = 21
    rolling: bool = False
    use_ema: bool = True
