"""Conformance: promises that every member of a room keeps, also those of users' packages."""
