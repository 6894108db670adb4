"""Training, judging and describing the sparse autoencoder that the package ships."""
