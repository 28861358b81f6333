"""Protocols, one file each: a function of arrays, and a `PROTOCOL` that binds it to embeddings."""
