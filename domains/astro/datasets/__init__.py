"""Datasets of variable stars and supernovae: one synthetic, two public, one's own folder."""
