"""Healing: missing trades fetched over REST."""
