"""`medisync ...`: thin commands over the stages.

Takes a command line; prints what a person reads. Exit codes: 0 done, 1 the data or the result is bad (said in one
line), 2 wrong usage. No traceback for a foreseeable mistake; `--debug` shows it.
"""
