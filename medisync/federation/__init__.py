"""Federated averaging on Flower: one client app, one server app and one strategy, in one process or over a network."""
