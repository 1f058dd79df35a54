"""Stage 0, files on disk: the folders `dataset/ models/ artifacts/ logs/` under one root.

Takes records and bytes; gives validated records back. No other package knows what a file is called. Every write
appears whole or not at all, and a run counts as complete only once its run.json names every file by SHA-256.
"""
