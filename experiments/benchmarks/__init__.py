"""Benchmarks: fnnet against its peers, as ratios taken in one run. See ``python -m experiments.benchmarks list``."""
