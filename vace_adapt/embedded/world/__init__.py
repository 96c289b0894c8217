"""A world of moving shapes: short clips of which everything is known exactly.

The embedded checkpoints are trained and measured on it, and the bundled clips come from it. Everything a clip shows
follows from one integer.
"""
