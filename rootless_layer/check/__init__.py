"""Every claim of a layer or an image, computed again; reports for a person.

Images and directories come in; findings, contents and differences go out. Nothing is changed.
"""
