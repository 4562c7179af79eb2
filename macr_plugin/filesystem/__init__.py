"""Files and folders on disk: atomic writing, locks, and the search of folders."""
