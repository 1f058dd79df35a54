"""Imaging: from the bytes of a file to the network's input.

Takes files of any accepted format, alone, as a series, in folders and in archives; returns grey slices uint8 [H, W], and
standardised images uint8 [S, S]. There is one path from bytes to pixels, shared by training, evaluation, batch prediction and
uploads. A file's content decides what it is; what is no scan is counted and named, and nothing of a patient gets into a message.
"""
