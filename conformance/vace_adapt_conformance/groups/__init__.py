"""The checks, one module for each group, in the order of the table."""
