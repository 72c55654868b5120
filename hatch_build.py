"""Build hook: compiles `streams/engine/native.pyx` where that can be done.

Without a C compiler, or Python's headers, the package is complete and slower; a warning says so.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeHook(BuildHookInterface[Any]):
    """Puts the compiled module beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and mark the wheel as one of this platform."""
        if self.target_name != "wheel":
            return
        try:
            built = compile_native(Path(self.root))
        except Exception as why:  # noqa: BLE001 - whatever it is, the package works without
            self.app.display_warning(
                f"streams.engine.native is not compiled, usual events take longer: {why}"
            )
            return
        build_data["artifacts"].append(f"/{built}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_native(root: Path) -> Path:
    """Compile in place; return the module's path from the root."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = root / "streams" / "engine" / "native.pyx"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory(prefix="shipclock-build-") as folder:
        # The module refuses to load beside another source than its own.
        module = Extension(
            "streams.engine.native",
            [str(source)],
            define_macros=[("SOURCE_SHA256", f'"{digest}"')],
        )
        modules = cythonize([module], build_dir=folder, quiet=True)  # type: ignore[no-untyped-call]
        command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
        command.build_temp, command.build_lib = folder, str(root)
        command.ensure_finalized()
        built = Path(command.get_ext_fullpath("streams.engine.native"))
        built.unlink(missing_ok=True)
        command.run()
    return built.relative_to(root)
