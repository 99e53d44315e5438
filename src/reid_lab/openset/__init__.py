"""Known, unknown or ambiguous: thresholds and verdicts at a false-accept rate. Without torch."""
