"""Names of the accuracies of a ranking. Imports nothing."""

CMC_RANKS = (1, 5, 10, 20)
ACCURACIES = (*(f"rank{k}" for k in CMC_RANKS), "mAP", "mAP_trapezoid", "mINP")
