"""Runs that are cut off at any moment, on disks that fail them, by clocks that jump: the documented command ends in the same bytes.

`python -m tests.chaos --rounds 100` kills as often as asked and tells how it went; test_chaos.py does six rounds, and the other faults.
"""
