"""The options that the command, a file of ``make`` and a derivation have in common: names, types, choices, defaults."""
