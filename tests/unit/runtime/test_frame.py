"""Faust as a frame, with and without what a worker leaves out of it."""

import asyncio
from types import SimpleNamespace

import pytest

from streams.rulebook import load_rulebook
from streams.runtime import frame
from streams.runtime.app import WorkerApp
from streams.runtime.settings import Settings
from streams.runtime.stages import product_stages


@pytest.mark.parametrize("bare", [True, False])
async def test_agents_take_what_comes_on_their_channels(
    bare: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a version that is not known nothing is left out, which is said, and it works alike."""
    assert frame.BARE, "look whether streams/runtime/frame.py holds for this version of Faust"
    monkeypatch.setattr(frame, "BARE", bare)
    stages = product_stages(load_rulebook(["douyin-first-scan"]), "framed")
    app = WorkerApp(Settings(app_id="framed"), stages)
    sources, app.sources = app.sources, []
    taken: asyncio.Queue[object] = asyncio.Queue()
    await app.start()
    async with asyncio.timeout(10):
        for source in sources:
            batch = SimpleNamespace(owner=SimpleNamespace(take=taken.put_nowait))
            await source._channel.put(batch)
            assert await taken.get() is batch
    await app.stop()
    assert ("plain-faust" in caplog.text) is not bare


def test_what_is_left_out_says_so() -> None:
    """A worker that begins to use it hears where it went."""
    for kind in {*frame.settings().values()}:
        with pytest.raises(RuntimeError, match=r"frame\.py"):
            kind()
