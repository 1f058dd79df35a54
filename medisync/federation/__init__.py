"""Stage 5, federation: federated averaging on Flower, in one process or over a network.

Takes hospitals and a configuration; gives the selected global model, its history and what the hospitals together found
out about it. The server's side sees updates, counts and sums, never an image or the prediction for one. One client app,
one server app and one strategy serve both the simulation and the network.
"""
