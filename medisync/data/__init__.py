"""Stage 1, data: from a hospital's folders to audited, leak-free splits of standardised images.

Takes image files of any accepted format; returns an `AuditRecord`, a `SplitRecord` and uint8 caches. Labels are never
guessed, files that are left out are counted and named, and no group of related images is in two splits.
There is one path from bytes to pixels, shared by training, evaluation, batch prediction and uploads.
"""
