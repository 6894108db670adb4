"""Is a store what was written, and what its model would say again?"""
