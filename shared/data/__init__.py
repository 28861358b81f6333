"""Datasets, batches, splits and fingerprints."""
