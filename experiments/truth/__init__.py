"""What the public functions should return: values and derivatives at 50 digits, from the definitions alone.

``exact`` has the numbers and the error of a float32. ``activations``, ``losses`` and ``penalties`` have the formulas,
``battery`` has the inputs, ``subjects`` lists every public function with its formula and its inputs, and ``measure``
computes the errors of the functions.
"""
