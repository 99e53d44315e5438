"""Known, unknown or ambiguous: verdicts at a false-accept rate; numpy alone."""
