"""A steering vector: apply it, measure what it does and what it breaks, calibrate its strength."""
