"""Exit statuses of the command line."""

DONE = 0
COMPARISON_FAILED = 1
SOME_FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130
