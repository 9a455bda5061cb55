"""Faults: what is left of a store when its writer is killed, its disk is full or fails, or its bytes are damaged.

Each harness is a module that returns findings: a case and its outcome. `tests.faults.findings` counts them and fails
for each that is guilty. `tests.faults.naive` saves without any care; each harness must find it guilty.
"""
