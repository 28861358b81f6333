"""Encoders of light curves, spectra and catalogue columns."""
