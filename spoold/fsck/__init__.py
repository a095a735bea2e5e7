"""What `spoold fsck` does: say what of a spool is not as it must be, and mend what can be mended without guessing.

facts       what stands on the disk now: reads and listings, nothing else
judging     from facts to findings; pure
mending     what --repair does, under the head's lock and through an epoch of its own
checking    looks until only what stays so is left; the findings as lines and as data

A live head moves files between two of our looks, so that one look proves nothing: a finding counts if every look of
several, a second apart, makes the same one. No step of a head takes that long, and what does (a full disk, a server
that is away) a person should hear of.

A finding is a fault, or something unfinished: what a head that was cut left half done, and the next head redoes by
itself. Only faults make the spool unsound.
"""
