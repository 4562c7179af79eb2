"""Option files: how they are read, what each key means and may be, and what is wrong with one."""
