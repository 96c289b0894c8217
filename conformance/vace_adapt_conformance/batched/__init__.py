"""The smallest honest pipeline whose batch rows are different chunks at different steps: it passes every check of the group
``stream batch``. Importing this package imports no torch.
"""
