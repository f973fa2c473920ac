#!/usr/bin/env python3
"""Prints what a release of rmbd is made of, as CycloneDX 1.6 in JSON.

sbom.py [CHECKED]: all crates that `cargo build` links into the program or runs to build it on this system, with their
versions, licences, purls, and the checksums that Cargo.lock has of them. What only tests use is not in it. With
SOURCE_DATE_EPOCH (or in a clone with git) the same sources give the same bytes. CHECKED is such a file: it is then
compared with the official schema and with what Cargo.lock says, which needs `cyclonedx-python-lib[json-validation]`.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
ROOT = "rmbd"
KINDS = {None, "build"}


def output(*words: str) -> str:
    return subprocess.run(words, cwd=TOP, check=True, capture_output=True, text=True).stdout


def metadata() -> dict:
    """All packages of this system's build."""
    host = re.search(r"^host: (\S+)$", output("rustc", "-vV"), re.M)[1]
    return json.loads(output("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host))


def reached(told: dict) -> dict[str, list[str]]:
    """The packages that the program needs, with what each of them needs."""
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    root = next(package["id"] for package in told["packages"] if package["name"] == ROOT)
    needs, wanted = {}, [root]
    while wanted:
        name = wanted.pop()
        if name in needs:
            continue
        deps = [dep for dep in nodes[name]["deps"] if any(it["kind"] in KINDS for it in dep["dep_kinds"])]
        needs[name] = sorted({dep["pkg"] for dep in deps})
        wanted += needs[name]
    return needs


def checksums() -> dict[tuple[str, str], str]:
    """SHA-256 of what the registry serves; crates of this repository have none."""
    lock = tomllib.loads((TOP / "Cargo.lock").read_text())
    return {(it["name"], it["version"]): it["checksum"] for it in lock["package"] if "checksum" in it}


def component(package: dict, sums: dict) -> dict:
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}"
    made = {
        "type": "application" if name == ROOT else "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "description": " ".join((package["description"] or "").split()),
        "scope": "required",
        # Some crates write the two of which one may choose as it was written once.
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
        "purl": purl,
    }
    if (name, version) in sums:
        made["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def time_of_sources() -> str:
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct")
    return datetime.fromtimestamp(int(seconds), timezone.utc).isoformat()


def document() -> dict:
    told, sums = metadata(), checksums()
    needs = reached(told)
    packages = {package["id"]: package for package in told["packages"]}
    made = {name: component(packages[name], sums) for name in needs}
    refs = {name: it["bom-ref"] for name, it in made.items()}
    root = next(it for it in made.values() if it["name"] == ROOT)
    del root["scope"]
    others = sorted((it for it in made.values() if it is not root), key=lambda it: it["bom-ref"])
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": time_of_sources(), "component": root},
        "components": others,
        "dependencies": sorted(
            ({"ref": refs[name], "dependsOn": sorted(refs[it] for it in below)} for name, below in needs.items()),
            key=lambda it: it["ref"],
        ),
    }
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)).urn
    return bom


def check(path: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from license_expression import get_spdx_licensing

    text = Path(path).read_text()
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong
    bom, licensing, sums = json.loads(text), get_spdx_licensing(), checksums()
    for it in [bom["metadata"]["component"], *bom["components"]]:
        told = licensing.validate(it["licenses"][0]["expression"])
        assert not told.errors, (it["name"], told.errors)
        content = it["hashes"][0]["content"] if "hashes" in it else None
        assert content == sums.get((it["name"], it["version"])), it
        assert content or it["name"].startswith(ROOT), f"{it['name']} has no checksum"
    names = {it["name"] for it in bom["components"]}
    assert {"rmbd-sketch", "io-uring", "aws-lc-sys"} <= names, "what the program is linked with lacks"
    assert not {"rmbd-testkit", "proptest", "criterion"} & names, "what only tests use is in it"
    print(f"{path}: {len(bom['components'])} components, as the schema of CycloneDX 1.6 has them")


if len(sys.argv) > 1:
    check(sys.argv[1])
else:
    print(json.dumps(document(), indent=1, ensure_ascii=False))
