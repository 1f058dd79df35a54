"""Synthetic hospitals: computer-drawn heads with known lesions, for the demonstration and the tests.

Takes a seed; writes dataset folders laid out like those of hospitals, and marks them as synthetic. The same seed
gives the same bytes. Nothing here shows a person.
"""
