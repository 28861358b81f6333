"""Training: the only part of the zoo that imports Lightning."""
