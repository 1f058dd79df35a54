"""The federation over a network: one process tree per hospital and one for the server, on Flower's own runtime.

settings      hospital.toml and server.toml: what each side is told, and nothing about another hospital
credentials   certificate authority, the server's certificate, a key pair per hospital
node          a hospital: its audit, its split, its introduction, its images
apps          the two Flower apps that pyproject.toml names
conductor     the server's app: a run like the notebook's, from hospitals that are elsewhere
flower        everything that is not Flower's public API
processes     SuperLink, SuperNodes and Flower's command line as child processes
"""
