"""Bringing results home before their links die: downloads of what succeeded tasks produced, into the storage.

`archiver` finds what is due and shares the work with other processes, `fetch` downloads one file.
"""
