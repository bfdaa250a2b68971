# OpenCV's own stubs know neither dtypes nor masks; arrays are checked where they leave a function.
from typing import Any

def __getattr__(name: str) -> Any: ...
