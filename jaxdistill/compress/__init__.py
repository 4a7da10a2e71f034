"""Networks made of networks by pure functions of their weights: merged, and aligned before they are merged."""
