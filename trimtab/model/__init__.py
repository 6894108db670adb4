"""Load a model and its SAE, name and hook its layers, render and tokenise. Knows nothing above."""
