"""Evaluation: additive totals -> metrics with confidence intervals, calibration, out-of-distribution (OOD) scores.

Takes labels, logits and features of one hospital's images; gives totals that hospitals can add up, and the figures
computed from them. The figures of one hospital and of the whole federation come from the same code.
"""
