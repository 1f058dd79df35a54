"""Synthetic hospitals: computer-drawn heads with known lesions, for the demonstration and the tests.

Takes a seed; gives dataset folders that look like those of hospitals, marked as synthetic. The same seed gives the
same bytes. Nothing here shows a person.
"""
