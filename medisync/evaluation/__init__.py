"""Stage 3, evaluation: additive totals -> metrics with intervals, calibration, out-of-distribution scores.

Takes labels, logits and features of one hospital's images; gives totals that hospitals can add up, and the figures
computed from them. The figures of one hospital and of the whole federation come from the same code.
"""
