"""A synthetic sky: variable stars of ten classes with light curve, spectrum and catalogue row.

One latent star (class, period, temperature, luminosity, distance, extinction) drives all three.
Relations and ranges follow the literature named in each function; scatter and numbers without a
named source are round values chosen by us. It is a test bed with right orders of magnitude, not a
population synthesis: no figure obtained on it is a statement about the real sky.
"""
