"""What `skyspool doctor` does: measure what the spool relies on, judge the numbers, tell them.

probes        what one host can measure by itself
replacing     a file that is replaced while it is read
meeting       how two hosts find each other through the directory, and speak
locking       locks between two hosts
experiments   what two hosts measure together
judging       from numbers to findings; pure
telling       findings as lines, and as data
examination   one round of it all
"""
