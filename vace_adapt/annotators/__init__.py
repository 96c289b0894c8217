"""Annotators: frames to control pictures or masks. Each file is one plugin; `find` loads one by name."""
