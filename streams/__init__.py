"""shipclock: watches the fulfilment clock of every paid order."""

__version__ = "0.1.0"
