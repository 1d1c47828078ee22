"""The repairs to SuperGradients 3.7.1: one file for a subject, each with its table at the end."""
