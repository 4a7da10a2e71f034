"""What a config may contain: schema, inheritance, overrides, durations, sweeps, the registry of names."""
