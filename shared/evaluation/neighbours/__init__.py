"""Exact nearest neighbours and ranks, blockwise, in bounded memory."""
