"""Contents of a config: schema, inheritance, overrides, durations, sweeps, the registry of names."""
