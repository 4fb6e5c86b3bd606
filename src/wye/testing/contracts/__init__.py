"""One suite per protocol of wye.interfaces, run on every implementation of it.

A suite is a class of tests with a fixture that the implementation's own test module overrides.
"""
