"""FramePack as a pipeline of vace-adapt. Importing this package imports no torch."""
