from pathlib import Path

import pytest

# Files that take long begin first, or one process works on them alone in the end.
SLOW = ("suite", "common/test_jobs", "cli/test_up", "separation", "analysis")
ROOT = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def is_quick(item: pytest.Item) -> bool:
        return not item.path.relative_to(ROOT).as_posix().startswith(SLOW)

    items.sort(key=is_quick)
