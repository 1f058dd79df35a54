"""Federation over a network: one process tree for the server and one per hospital, on Flower's own runtime.

settings, credentials, setup   hospital.toml and server.toml; certificates and keys; the folders of a new federation
node                           a hospital's audit, split, introduction and images
apps, coordinator              the two Flower apps that pyproject.toml names; the server's side of a run
flower, worker                 all that is not Flower's public API; the process that answers messages
services                       child processes that end with the command that started them
superlink, supernode           the server until it is stopped; a hospital until it is stopped
submission, run_output         starting a run on the server and following it; the lines that the run prints for this
policy, run_request, ledger    what a hospital allows, what a run asks for, and what was approved and counted
enforcement, release           the policy applied to messages, and to counts that leave
audit_log, recording           a hospital's record of all messages; its seals at the server
loopback                       server and hospitals together on one machine
"""
