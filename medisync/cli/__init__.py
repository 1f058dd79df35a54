"""The command line, `medisync ...`: thin commands over the stages.

Takes a command line and prints text for people, or JSON and CSV for programs. Exit codes: 0 success; 1 bad data or a bad
result, explained in one line; 2 wrong usage. A foreseeable mistake shows no traceback; `--debug` does.
"""
