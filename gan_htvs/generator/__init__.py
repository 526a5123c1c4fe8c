"""The composition-conditioned crystal GAN: networks, training, checkpoints."""
