"""Stage 6, inference: a published model applied to new scans.

Takes the bytes of an image file; gives a calibrated prediction, the reasons to distrust it, and a heat map.
Research use only: nothing here is a diagnosis. Uploads stay in memory.
"""
