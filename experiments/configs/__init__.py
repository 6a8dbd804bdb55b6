"""Configurations as data, one file each."""
