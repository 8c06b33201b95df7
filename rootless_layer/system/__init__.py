"""The kernel and the disk: namespaces, forks, leases, temporary directories, directories that are replaced whole.

Paths and process numbers come in; processes, locks and directories go out. Every package may import
this one. It imports the standard library only, because the processes of a session start without
anything else.
"""
