"""Lines that a run on the server prints for whoever started it, told apart from Flower's own output by a prefix."""

SAYS, FAILED, COMPLETED = "medisync: ", "failed: ", "completed "
"""The prefix of every such line; what follows it when the run failed (the reason) or completed (the run's name)."""
