"""`make chaos`: a suite at work while its processes, store, disk, clock and clients fail; see `__main__`."""
