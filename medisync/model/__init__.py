"""Stage 2, the network: ResNet18 from scratch, its weights and the device that it runs on.

Takes a configuration or a file of weights; gives networks and plain `state_dict`s. Weights are loaded only after keys,
shapes, dtypes, finite values and, where known, the SHA-256 were checked; no pickle is ever executed.
"""
