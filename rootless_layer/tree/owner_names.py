"""What owners are called in a tar's headers, beside their numbers (image-spec ``layer.md``, "File Attributes")."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True)
class OwnerNames:
    """A name for the one user, and for the one group, whose number it stands beside; all others have none.

    Every engine goes by the numbers. ``tar`` goes by a name where its machine knows it: so there is none that nobody gave.
    """

    user: tuple[int, str] | None = None
    group: tuple[int, str] | None = None

    @classmethod
    def of(cls, uid: int, uname: str, gid: int, gname: str) -> OwnerNames:
        """Take an owner and its names, of which an empty one is none."""
        return cls((uid, uname) if uname else None, (gid, gname) if gname else None)

    def of_user(self, uid: int) -> bytes | None:
        """Give the name that stands beside a user's number."""
        return self.user[1].encode() if self.user is not None and self.user[0] == uid else None

    def of_group(self, gid: int) -> bytes | None:
        """Give the name that stands beside a group's number."""
        return self.group[1].encode() if self.group is not None and self.group[0] == gid else None


NAMELESS = OwnerNames()
