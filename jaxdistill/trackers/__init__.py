"""Trackers: one program that shows metrics per file."""
