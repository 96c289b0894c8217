"""Backend ``wan``: Wan2.1 with packed history, as Helios has it."""
