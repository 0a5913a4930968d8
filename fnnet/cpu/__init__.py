"""What only XLA on a CPU needs, apart from the mathematics: each trick with its measurements."""
