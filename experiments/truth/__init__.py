"""What the public functions ought to give: values and derivatives at 50 digits, from the definitions alone.

``exact``: the numbers, and the distance of a float32 from one of them. ``activations``, ``losses``, ``penalties``: the
formulas. ``battery``: the inputs. ``subjects``: every public function with its formula and its inputs. ``measure``: how
far off the functions are.
"""
