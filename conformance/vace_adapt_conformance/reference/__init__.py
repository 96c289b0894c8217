"""The smallest honest pipeline: it passes every check. Importing this package imports no torch."""
