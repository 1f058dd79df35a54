"""Stage 0, files on disk: the folders `dataset/ models/ artifacts/ logs/` under one root.

Takes records and bytes; returns validated records. No other package knows the names of files. Every write is atomic,
and a run is complete only once its run.json lists every file with its SHA-256.
"""
