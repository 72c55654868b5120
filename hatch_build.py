"""Build hook: compiles the modules of `COMPILED` where that can be done.

Without a C compiler, or Python's headers, the package is complete and slower; a warning says so.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = ("streams.engine.native", "streams.runtime.native")


class NativeHook(BuildHookInterface[Any]):
    """Puts the compiled module beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and mark the wheel as one of this platform."""
        if self.target_name != "wheel":
            return
        try:
            built = compile_all(Path(self.root))
        except Exception as why:  # noqa: BLE001 - whatever it is, the package works without
            self.app.display_warning(
                f"{' and '.join(COMPILED)} are not compiled, usual events take longer: {why}"
            )
            return
        build_data["artifacts"] += [f"/{module}" for module in built]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_all(root: Path) -> list[Path]:
    """Compile in place; return the modules' paths from the root."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    with tempfile.TemporaryDirectory(prefix="shipclock-build-") as folder:
        modules = []
        for name in COMPILED:
            source = root / f"{name.replace('.', '/')}.pyx"
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            # A module refuses to load beside another source than its own.
            guard = [("SOURCE_SHA256", f'"{digest}"')]
            modules.append(Extension(name, [str(source)], define_macros=guard))
        modules = cythonize(modules, build_dir=folder, quiet=True)  # type: ignore[no-untyped-call]
        command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
        command.build_temp, command.build_lib = folder, str(root)
        command.ensure_finalized()
        built = [Path(command.get_ext_fullpath(name)) for name in COMPILED]
        for module in built:
            module.unlink(missing_ok=True)
        command.run()
    return [module.relative_to(root) for module in built]
