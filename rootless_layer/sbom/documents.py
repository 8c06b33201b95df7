"""A bill of materials written as SPDX 2.3 or CycloneDX 1.6, in JSON: the same bytes for the same image."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from rootless_layer.image.referrers import Attachment
from rootless_layer.oci.descriptor import sha256
from rootless_layer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.image.format import BillForm

    from .component import Bill, Component, Package

MEDIA_TYPES: dict[BillForm, str] = {"spdx": "application/spdx+json", "cyclonedx": "application/vnd.cyclonedx+json"}
"""By form; IANA has both."""
ENDINGS: dict[BillForm, str] = {"spdx": ".spdx.json", "cyclonedx": ".cdx.json"}
"""How the names of such files end."""
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:rootless-layer:sbom")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9.-]+")
_CYCLONEDX_HASHES = {"SHA256": "SHA-256"}
_NOBODY = "NOASSERTION"


def to_bytes(bill: Bill, form: BillForm) -> bytes:
    """Write a bill."""
    said = _spdx(bill) if form == "spdx" else _cyclonedx(bill)
    return json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False).encode(errors="replace") + b"\n"


def attachment(bill: Bill, form: BillForm) -> Attachment:
    """Give a bill as it is attached to the image that it is of."""
    return Attachment(MEDIA_TYPES[form], to_bytes(bill, form), f"sbom{ENDINGS[form]}")


def _name(bill: Bill) -> uuid.UUID:
    """Give a UUID that follows from all that is said: of two bills that differ, each has its own."""
    said = [__version__, bill.name, bill.digest, bill.created]
    said += [f"{one.url} {one.layer} {one.depends} {one.package.hashes}" for one in bill.components]
    return uuid.uuid5(_SPACE, sha256("\n".join(said).encode(errors="replace")))


def _unread(bill: Bill) -> list[str]:
    return [f"{path}: {why}" for path, why in bill.unread.items()]


def _image_url(bill: Bill) -> str:
    """Give the image's package URL, of the type ``oci``."""
    last = bill.name.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return f"pkg:oci/{last}@{bill.digest.replace(':', '%3A')}?arch={bill.architecture}"


# --- SPDX ---


def _spdx(bill: Bill) -> dict[str, Any]:
    """Write ISO/IEC 5962's successor SPDX 2.3: the image contains its layers, and each of these the packages that it brings."""
    ids = _ids(bill.components)
    layers = [f"SPDXRef-Layer-{number}" for number in range(len(bill.layers))]
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")]
    relations += [_relation("SPDXRef-Image", "CONTAINS", layer) for layer in layers]
    relations += [_relation(layers[one.layer], "CONTAINS", ids[number]) for number, one in enumerate(bill.components)]
    relations += [
        _relation(ids[number], "DEPENDS_ON", ids[other]) for number, one in enumerate(bill.components) for other in one.depends
    ]
    creation: dict[str, Any] = {"created": bill.created, "creators": [f"Tool: rootless-layer-{__version__}"]}
    if unread := _unread(bill):
        creation["comment"] = "; ".join(unread)
    image = _package("SPDXRef-Image", bill.name, "CONTAINER") | {
        "versionInfo": bill.digest,
        "checksums": [_checksum("SHA256", bill.digest.removeprefix("sha256:"))],
        "externalRefs": [_reference(_image_url(bill))],
    }
    packages = [image]
    for identity, layer in zip(layers, bill.layers, strict=True):
        packages.append(
            _package(identity, layer.digest, "ARCHIVE")
            | {"checksums": [_checksum("SHA256", layer.digest.removeprefix("sha256:"))], "comment": f"diff ID {layer.diff_id}"}
        )
    packages += [_spdx_package(identity, one) for identity, one in zip(ids, bill.components, strict=True)]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.name,
        "documentNamespace": f"urn:uuid:{_name(bill)}",
        "creationInfo": creation,
        "packages": packages,
        "relationships": relations,
    }


def _ids(components: Sequence[Component]) -> list[str]:
    """Give each component an ID of letters, digits, dots and dashes."""
    found: Counter[str] = Counter()
    ids: dict[str, None] = {}
    for one in components:
        package = one.package
        tail = "-".join(filter(None, (package.name, package.version, package.architecture, *_digest(package))))
        name = f"SPDXRef-{package.kind}-{_NOT_IN_ID.sub('-', tail)}"
        own = name
        while own in ids:  # a package's name may itself end so
            found[name] += 1
            own = f"{name}..{found[name] + 1}"
        ids[own] = None
    return list(ids)


def _digest(package: Package) -> tuple[str, ...]:
    return (package.path.rpartition("/")[2][:32],) if package.path else ()


def _package(identity: str, name: str, purpose: str) -> dict[str, Any]:
    return {
        "SPDXID": identity,
        "name": name,
        "downloadLocation": _NOBODY,
        "filesAnalyzed": False,
        "primaryPackagePurpose": purpose,
    }


def _spdx_package(identity: str, one: Component) -> dict[str, Any]:
    package = one.package
    said = _package(identity, package.name, "LIBRARY" if package.name.startswith("lib") else "APPLICATION")
    said["externalRefs"] = [_reference(one.url)]
    if package.version:
        said["versionInfo"] = package.version
    if package.hashes:
        said["checksums"] = [_checksum(*each) for each in package.hashes]
    if package.path:
        said["packageFileName"] = package.path
    if package.source:
        said["sourceInfo"] = f"built of the source package {package.source}"
    if package.license:
        said["licenseComments"] = f"the package says: {package.license}"
    return said


def _checksum(algorithm: str, digits: str) -> dict[str, str]:
    return {"algorithm": algorithm, "checksumValue": digits}


def _reference(url: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


# --- CycloneDX ---


def _cyclonedx(bill: Bill) -> dict[str, Any]:
    """Write ECMA-424, CycloneDX 1.6: a package names its layer by properties."""
    refs = [_ref(one) for one in bill.components]
    top = bill.digest
    metadata: dict[str, Any] = {
        "timestamp": bill.created,
        "tools": {"components": [{"type": "application", "name": "rootless-layer", "version": __version__}]},
        "component": {
            "type": "container",
            "bom-ref": top,
            "name": bill.name,
            "version": bill.digest,
            "hashes": [{"alg": "SHA-256", "content": bill.digest.removeprefix("sha256:")}],
            "purl": _image_url(bill),
        },
    }
    if unread := _unread(bill):
        metadata["properties"] = [_property("unread", each) for each in unread]
    dependencies: list[dict[str, Any]] = [{"ref": top, "dependsOn": sorted(set(refs))}] if refs else [{"ref": top}]
    for ref, one in zip(refs, bill.components, strict=True):
        dependencies.append({"ref": ref} | ({"dependsOn": [refs[other] for other in one.depends]} if one.depends else {}))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_name(bill)}",
        "version": 1,
        "metadata": metadata,
        "components": [_cyclonedx_component(ref, one, bill) for ref, one in zip(refs, bill.components, strict=True)],
        "dependencies": dependencies,
    }


def _ref(one: Component) -> str:
    return one.package.path or one.url


def _cyclonedx_component(ref: str, one: Component, bill: Bill) -> dict[str, Any]:
    package, layer = one.package, bill.layers[one.layer]
    said: dict[str, Any] = {
        "type": "library" if package.name.startswith("lib") else "application",
        "bom-ref": ref,
        "name": package.name,
        "purl": one.url,
        "properties": [
            _property("layer", str(one.layer)),
            _property("layer:digest", layer.digest),
            _property("layer:diff-id", layer.diff_id),
        ],
    }
    if package.version:
        said["version"] = package.version
    if package.hashes:
        said["hashes"] = [{"alg": _CYCLONEDX_HASHES[kind], "content": digits} for kind, digits in package.hashes]
    if package.license:
        said["licenses"] = [{"license": {"name": package.license}}]
    if package.supplier:
        said["supplier"] = {"name": package.supplier}
    if package.path:
        said["properties"].append(_property("path", package.path))
    if package.source:
        said["properties"].append(_property("source", package.source))
    return said


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"rootless-layer:{name}", "value": value}
