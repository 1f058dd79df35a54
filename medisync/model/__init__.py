"""The network: ResNet18 trained from scratch, its weights and the device that it runs on.

Takes a configuration or a file of weights; gives networks and plain `state_dict`s. Weights are loaded only after their
keys, shapes, dtypes, finite values and, where known, SHA-256 have been checked; no pickle is ever executed.
"""
