"""Encoders of protein sequences."""
