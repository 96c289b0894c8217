"""The smallest honest pipeline whose batch rows are different chunks at different steps: it passes every check that the
reference pipeline cannot be asked. Importing this package imports no torch.
"""
