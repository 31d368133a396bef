"""A simulated member: the real folder replica, its disk and catalog in memory, and what would be threads around it.

What outlives a crash: the tree, the database at its last commit. What does not: the replica, the watch, what was being
fetched or hashed. Events reach the replica one at a time, as in the daemon's driver; handling one takes a little time.
"""

from __future__ import annotations


