"""The handbook: one function for each verdict, whose docstring says what it means and when it is wrong."""
