"""Estimates of compiled programs: time, memory and collectives, by parts of a step."""
