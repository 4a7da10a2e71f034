"""Data: where examples come from, in which order they go, and what happens to them on the device."""
