"""Wire-level fakes: servers on loopback that the real client libraries talk to.

A mock of a client library only repeats what its author believed about the platform.
These fakes speak the platforms' protocols instead, so the tests run the libraries' own
network code: their retries, their rate limiters, their reconnects.
"""
