"""Linear models solved for a whole grid of regularisation strengths at once."""
