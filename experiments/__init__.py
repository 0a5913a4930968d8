"""Experiments: one module per question, each with a frozen ``Config`` and a function ``run(config)``.

``python -m experiments list`` lists them.
"""
