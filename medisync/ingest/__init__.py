"""Ingest: from a folder of DICOM studies, as a PACS exports it, to a hospital's dataset.

Takes the folder, a table of labels, rules for series and the hospital's own secret key; returns class folders of de-identified
PNG slices with patients.csv, and a report. Labels are never guessed, every file is accounted for, and nothing of a header, of
a path or of the table gets into anything that is written or said.
"""
