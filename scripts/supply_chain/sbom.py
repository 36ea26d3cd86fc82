"""Software bill of materials of the server: what `cyclonedx-py` finds in an environment, less the tools of tests.

python -m satmeter.scripts.supply_chain.sbom CYCLONEDX_PY OUT
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

_WITHIN_S: Final = 300
_OURS: Final = "satmeter"
_REQUIREMENT: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[(?P<extras>[^\]]*)\])?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")

Requires = Callable[[str], Sequence[str] | None]
"""Returns the requirements of an installed package; None for one that is not installed."""


def needed(name: str, requirements_of: Requires) -> dict[str, set[str]]:
    """Return what a package needs to run, itself included, each with what it needs in turn.

    Requirements of an extra count where that extra is asked for. `cyclonedx-py` counts those of all extras.
    """
    found: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(normalised(name), frozenset())]
    seen = set()
    while waiting:
        package, extras = waiting.pop()
        if (package, extras) in seen or (requirements := requirements_of(package)) is None:
            continue
        seen.add((package, extras))
        needs = found.setdefault(package, set())
        for text in requirements:
            asked, form = _EXTRA.findall(text), _REQUIREMENT.match(text)
            if form is not None and (not asked or extras & set(asked)):
                other = normalised(form["name"])
                needs.add(other)
                waiting.append((other, frozenset(part.strip() for part in (form["extras"] or "").split(",") if part)))
    return {package: needs & found.keys() for package, needs in found.items()}


def pruned(bom: Mapping[str, Any], needs: Mapping[str, set[str]], own_version: str) -> dict[str, Any]:
    """Return the bill with these packages alone, and with what they need. Raises `ValueError` where one is missing."""
    components = {normalised(component["name"]): component for component in bom["components"]}
    others = sorted(needs.keys() - {_OURS})
    if missing := [name for name in others if name not in components]:
        raise ValueError(f"the bill lacks {', '.join(missing)}")
    root = {**bom["metadata"]["component"], "version": own_version}
    refs = {_OURS: root["bom-ref"], **{name: components[name]["bom-ref"] for name in others}}
    return {
        **bom,
        "metadata": {**bom["metadata"], "component": root},
        "components": [components[name] for name in others],
        "dependencies": [
            {"ref": refs[name], "dependsOn": sorted(refs[other] for other in needs[name])} for name in [_OURS, *others]
        ],
    }


def normalised(name: str) -> str:
    """Return a package's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> Sequence[str] | None:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bill of this environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cyclonedx_py", help="the program")
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    words = [given.cyclonedx_py, "environment", "--pyproject", "pyproject.toml", "--mc-type", "application"]
    words += ["--output-reproducible", "--of", "JSON", sys.executable]
    run = subprocess.run(words, capture_output=True, timeout=_WITHIN_S, check=True)
    bill = pruned(json.loads(run.stdout), needed(_OURS, _installed), version(_OURS))
    given.out.write_text(json.dumps(bill, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
