"""Protocols on frozen embeddings: arrays in, results with intervals and baselines out."""
