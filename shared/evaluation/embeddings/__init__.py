"""Embeddings: what a model gives for a dataset, in memory and in files."""
