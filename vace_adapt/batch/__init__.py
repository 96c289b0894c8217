"""VACE as it was published, over whole clips: what streaming is compared with."""
