"""Healing: what was missed, asked for again over REST."""
