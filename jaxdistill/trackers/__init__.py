"""Trackers: one program in which people look at metrics per file."""
