"""Stage 4, training: one hospital, one round.

Takes global weights and one hospital's images; gives an update, or the outputs of the network. All randomness comes
from generators passed as arguments. Nothing here knows of other hospitals or of messages.
"""
