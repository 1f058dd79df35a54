"""Training: one hospital, one round.

Takes the global weights and one hospital's images; gives a client update, or the outputs of the network. All randomness
comes from generators passed as arguments. Nothing here knows of other hospitals or of messages.
"""
