"""The step and what wraps it: initialisation, sharding, the loop, checkpoints, evaluation."""
