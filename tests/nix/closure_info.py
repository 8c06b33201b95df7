"""Write what nixpkgs' closureInfo does of a closure."""

import json
import os
from pathlib import Path

given = os.environ.get("NIX_ATTRS_JSON_FILE", "")
attributes = json.loads(Path(given if os.path.exists(given) else ".attrs.json").read_bytes())
out, closure = Path(attributes["outputs"]["out"]), sorted(attributes["closure"], key=lambda entry: entry["path"])
out.mkdir()
(out / "total-nar-size").write_text(f"{sum(entry['narSize'] for entry in closure)}\n")
(out / "store-paths").write_text("".join(f"{entry['path']}\n" for entry in closure))
records = (
    [entry["path"], entry["narHash"], entry["narSize"], "", len(entry["references"]), *sorted(entry["references"])]
    for entry in closure
)
(out / "registration").write_text("".join(f"{line}\n" for record in records for line in record))
