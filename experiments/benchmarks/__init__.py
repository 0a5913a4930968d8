"""Benchmarks of fnnet and its peers, as ratios measured in one run; ``python -m experiments.benchmarks`` lists them."""
