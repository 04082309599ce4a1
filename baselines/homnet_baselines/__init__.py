"""Baselines that HomNet is compared with, as :class:`BagModel` classes."""
