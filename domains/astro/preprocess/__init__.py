"""Light curves, spectra and catalogue rows as arrays on the scale that the encoders expect."""
