"""How a run on the server speaks to whoever started it: lines with a prefix, in between those that Flower prints."""

SAYS, FAILED, COMPLETED = "medisync: ", "failed: ", "completed "
"""The prefix of every line; how a line about a failure and one about a completed run go on."""
