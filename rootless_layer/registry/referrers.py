"""What is attached to an image of a registry (distribution-spec 1.1, "Listing Referrers").

A registry without that part of the specification has a list of referrers under a tag that is made of the digest ("Referrers
Tag Schema"), which whoever pushes a referrer keeps.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import INDEX, canonical
from rootless_layer.oci.documents import INDEXES

from .transport import close

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import Client

MOST_REFERRERS = 1_000
_OK = 200
_NO_SUCH_API = (400, 404, 405, 501)


def list_referrers(client: Client, digest: str) -> list[dict[str, Any]]:
    """Give the descriptors of all that is attached to a manifest or an index.

    Raises :class:`InputError` for a list that is none, and as :meth:`.Client.manifest` does.
    """
    answer, rows, address = client.request("GET", f"referrers/{digest}", {"Accept": INDEX}), [], ""
    kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip()
    if answer.status in _NO_SUCH_API or (answer.status == _OK and kind not in INDEXES):
        close(answer)
        tag = fallback_tag(digest)
        return _rows(client, client.manifest(tag).data) if client.has(tag, manifest=True) else []
    while True:
        rows += _rows(client, client.read_document(answer, f"{client.where}: the referrers of {digest}"))
        address = client.next_page(answer)
        if not address or len(rows) > MOST_REFERRERS:
            break
        answer = client.request("GET", address, {"Accept": INDEX})
    return rows


def put_referrer(client: Client, row: Mapping[str, Any], data: bytes, subject: str) -> None:
    """Put the manifest of an artifact, and have it listed; raises :class:`OutputError`."""
    taken = client.put_manifest(str(row["digest"]), str(row["mediaType"]), data)
    if taken == subject:  # the registry lists it itself
        return
    tag = fallback_tag(subject)
    rows = _rows(client, client.manifest(tag).data) if client.has(tag, manifest=True) else []
    if any(each.get("digest") == row["digest"] for each in rows):
        return
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*rows, dict(row)]}
    client.put_manifest(tag, INDEX, canonical(listed))


def fallback_tag(digest: str) -> str:
    """Give the tag under which a registry that lists no referrers has those of a digest."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


def _rows(client: Client, data: bytes) -> list[dict[str, Any]]:
    try:
        said = json.loads(data)
        rows = said["manifests"] or []
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        message = f"{client.where}: what the registry gives as a list of referrers is none"
        raise InputError(message, hint="Ask whoever runs the registry.") from error
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
