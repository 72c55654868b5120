"""Build hook: compiles `streams/engine/native.pyx` where that can be done.

Without a C compiler, or Python's headers, the package is complete and slower; a warning says so.
"""

from __future__ import annotations

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
        for stale in Path(self.root, "streams", "engine").glob("native.*.so"):
            stale.unlink()
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

    with tempfile.TemporaryDirectory(prefix="shipclock-build-") as folder:
        source = Extension("streams.engine.native", [str(root / "streams/engine/native.pyx")])
        modules = cythonize([source], build_dir=folder, quiet=True)  # type: ignore[no-untyped-call]
        command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
        command.build_temp, command.build_lib = folder, str(root)
        command.ensure_finalized()
        command.run()
        return Path(command.get_ext_fullpath("streams.engine.native")).relative_to(root)
