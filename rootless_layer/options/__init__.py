"""Every option of a layer and of an image once: the command, a file of ``make`` and a derivation read the same rows."""
