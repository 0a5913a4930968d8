"""What exists only because of XLA's compiler for CPUs, one module for each trick; the mathematics is elsewhere.

Each module says what it is for, what it gains on two kinds of processor, and the version of jax from which to try
without it. A trick that gains less than 10 % on both is removed.
"""
