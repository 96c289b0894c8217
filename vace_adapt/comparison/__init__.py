"""Runs side by side on one self-contained page."""
