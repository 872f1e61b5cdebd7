"""Third-party packages that do not import as they are: one module each, deleted once upstream is fixed."""
