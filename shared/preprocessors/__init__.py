"""Preprocessors that two domains need."""
