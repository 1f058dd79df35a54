"""Inference: a published model applied to new scans.

Takes the bytes of image files; gives calibrated predictions, the reasons to distrust them, and heat maps. Research use
only: nothing here is a diagnosis. Uploads stay in memory.
"""
