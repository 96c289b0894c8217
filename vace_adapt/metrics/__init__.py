"""Measures of videos: each a small function of uint8 frames [T, H, W, 3] RGB, with its unit and its source."""
