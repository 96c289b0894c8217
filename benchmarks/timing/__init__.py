"""What ``benchmarks/speed.py`` measures with: models of several sizes, streams that take turns, a clock by parts."""
