"""Datasets of remote sensing, one file a layout."""
