"""Comparators of HomNet behind one contract."""
