"""Stage 1, data: from a hospital's folders to audited, leak-free splits of standardised images.

Takes a folder of class folders; returns an `AuditRecord`, a `SplitRecord` and uint8 caches. Labels are never guessed, files that
are left out are counted and named, and no group of related images is in two splits. `imaging/` reads the files.
"""
