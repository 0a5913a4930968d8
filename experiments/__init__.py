"""Experiments: one module per question, each with a frozen ``Config`` and ``run(config)``.

``python -m experiments list`` names them.
"""
