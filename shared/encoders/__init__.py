"""What an encoder is, and encoders that two domains need."""
