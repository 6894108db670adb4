"""Learned selection: pairs ranked by what their features alone say of them."""
