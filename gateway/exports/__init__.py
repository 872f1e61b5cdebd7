"""Exports of a track's results as files for other programs: lyrics, charts, markers, MIDI, mixes.

Each export is one module with an `Export`, and one line in `registry.py`.
"""
