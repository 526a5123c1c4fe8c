"""Campaigns, training and evaluation on this machine."""
