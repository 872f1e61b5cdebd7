"""Work-arounds for third-party packages: one module each, to be deleted when the package is fixed."""
